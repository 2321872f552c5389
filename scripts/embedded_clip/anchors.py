"""The image side of the shared space: a linear projection of the trunk, and one anchor direction per labelled class.

The trunk's own classifier knows 1,000 classes of which the training photos show only a fifth. What it knows of the
others is passed on by distillation on features of real photos steered towards those classes.
"""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scripts.embedded_clip.objectives import correlation, distill, kinds_seen, unknown_classes, unknown_kinds
from scripts.embedded_clip.photos import Kinds, Photos
from scripts.embedded_clip.vision import SHARP_VIEWS

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FitConfig:
    """How the projection is fitted.

    Attributes:
        dim: width of the shared space.
        variance: how many of its directions start as the photos' own principal ones, beside those of the classifier.
        scale_rate: learning rate of the softmax's scale (1 / temperature); where it grows, cosines come to nothing.
        kinds: weight of kinds.
        straightness: weight, beside them, of cosines to absent kinds being 0.
        unknown: weight of the ranking of known before unknown photos.
        centred: whether the mean photo is projected to 0, so that no class is nearer to all photos than another is.
        scenes: weight of MiniPlaces' photos among the labelled ones.
    """

    dim: int = 512
    variance: int = 0
    steps: int = 450
    learning_rate: float = 3e-4
    scale_rate: float = 1e-3
    kinds: float = 1.0
    straightness: float = 2.0
    unknown: float = 2.0
    scenes: float = 2.0
    centred: bool = False


class Projection(nn.Linear):
    """The linear map, with bias, from pooled trunk features to the shared space (open_clip's timm_proj='linear')."""

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(super().forward(x), dim=-1)

    @torch.no_grad()
    def centre_at(self, x: Tensor) -> None:
        """Sets the bias so that the trunk features x (P,) are projected to 0."""
        self.bias.copy_(-self.weight @ x)


@dataclass
class Space:
    """The image side: its projection, unit-length anchors of all names (L, dim) and kinds (H, dim), 1 / temperature."""

    projection: Projection
    anchors: Tensor
    kinds: Tensor
    scale: float

    def state(self) -> dict[str, Any]:
        """All of it as tensors and numbers."""
        projection = {name: value.detach() for name, value in self.projection.state_dict().items()}
        return {"projection": projection, "anchors": self.anchors, "kinds": self.kinds, "scale": self.scale}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Space:
        """The inverse of `state`."""
        dim, width = state["projection"]["weight"].shape
        projection = Projection(width, dim)
        projection.load_state_dict(state["projection"])
        return cls(projection, state["anchors"], state["kinds"], state["scale"])


def fit_space(
    photos: Photos,
    rows: Tensor,
    bias: Tensor,
    held_out: set[int],
    kinds: Kinds,
    seed: int,
    config: FitConfig,
    start: Space | None = None,
) -> Space:
    """Learns projection and anchors; with `start` given, fits the projection and scale to its anchors as they are.

    Five terms: the trunk classifier's own answer on real and on steered features (distillation); the photos' labels
    among the names of their own set; the kinds that the classifier sees in a feature against all that it does not (the
    mean of the breeds' rows is no direction for "dog": rows tell breeds apart); the correlation of all class
    similarities with the classifier's logits, which keeps what the projection knows of classes without photos; and
    known photos before unknown ones, by maximum concept matching over a draw of classes or kinds.

    Args:
        rows: the trunk classifier's weights, shape (1000, 1280), and `bias` (1000,).
        held_out: ImageNet classes (by index) whose rows and photos must not be seen.
    """
    torch.manual_seed(seed)
    known = torch.tensor([i for i in range(len(rows)) if i not in held_out])
    rows, bias = rows[known], bias[known]
    centred = rows - rows.mean(0)
    space = start or _initial_space(photos, centred, known, kinds, config)
    projection = copy.deepcopy(space.projection)
    centre = photos.features.mean((0, 1)) * config.centred
    if config.centred:
        nn.init.zeros_(projection.bias).requires_grad_(False)
    table = nn.Parameter(space.anchors.clone(), requires_grad=start is None)
    kind_table = nn.Parameter(space.kinds.clone(), requires_grad=start is None)
    above = kinds.members[:, known]
    log_scale = nn.Parameter(torch.tensor(space.scale).log())
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in projection.parameters() if p.requires_grad], "lr": config.learning_rate},
            {"params": [table, kind_table], "lr": 3 * config.learning_rate},
            {"params": [log_scale], "lr": config.scale_rate},
        ],
        weight_decay=0.0,
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    x, sharp = photos.features, torch.where(~photos.is_small)[0]
    small = torch.where(photos.is_small)[0]
    covariance = torch.cov(x[sharp][:, :SHARP_VIEWS].flatten(0, 1).T)
    steer = F.normalize(centred @ (covariance + 0.3 * covariance.diagonal().mean() * torch.eye(len(covariance))), dim=1)
    gain = (steer * centred).sum(1)
    members = {int(g): torch.where(photos.group_of_name == g)[0] for g in photos.group.unique()}
    members[0] = known
    place = torch.full((len(photos.names),), -1)
    for group in members.values():
        place[group] = torch.arange(len(group))
    half = 192
    weight_of_photo = torch.where(photos.is_scene, config.scenes, 1.0)
    for step in range(config.steps):
        unit = F.normalize(table, dim=-1)
        # Real photos in any view; the classifier answers for the plain one.
        pick = torch.cat([sharp[torch.randint(len(sharp), (half,))], small[torch.randint(len(small), (128,))]])
        view = torch.randint(x.shape[1], (len(pick),))
        z = projection(x[pick, view] - centre)
        plain = x[pick[:half], 0]
        answer = plain @ rows.T + bias
        loss = distill(z[:half] @ unit[known].T * log_scale.exp(), answer)
        seen = _seen(answer, above)
        loss = loss + config.kinds * kinds_seen(
            z[:half], unit[known], kind_table, log_scale.exp(), seen, config.straightness
        )
        unit_kinds = F.normalize(kind_table, dim=-1)
        loss = loss + config.unknown * unknown_kinds(z[:half], unit_kinds, seen[:, len(known) :], above)
        labels, groups = photos.label[pick], photos.group[pick]
        for number, group in members.items():
            mine = groups == number
            if mine.any():
                cosines, target = z[mine] @ unit[group].T, place[labels[mine]]
                errors = F.cross_entropy(cosines * log_scale.exp(), target, reduction="none")
                weight = 0.25 if number == 0 else 0.5
                loss = loss + weight * (errors * weight_of_photo[pick[mine]]).sum() / len(pick)
                loss = loss + config.unknown * mine.float().mean() * unknown_classes(z[mine], target, unit[group])
        # Real features pushed towards classes that no photo shows, far enough that the classifier believes it.
        pick, view = sharp[torch.randint(len(sharp), (half,))], torch.randint(SHARP_VIEWS, (half,))
        goal = torch.randint(len(known), (half,))
        base = x[pick, view]
        logits = base @ rows.T + bias
        push = (logits.amax(1) + 6 * torch.rand(half) - logits[torch.arange(half), goal]) / gain[goal]
        steered = (base * (0.6 + 0.4 * torch.rand(half, 1)) + push[:, None] * steer[goal]).clamp_min(0)
        z = projection(steered - centre)
        answer = steered @ rows.T + bias
        loss = loss + distill(z @ unit[known].T * log_scale.exp(), answer)
        seen = _seen(answer, above)
        loss = loss + config.kinds * kinds_seen(z, unit[known], kind_table, log_scale.exp(), seen, config.straightness)
        loss = loss + config.unknown * unknown_classes(z, goal, unit[known])
        loss = loss + config.unknown * unknown_kinds(z, unit_kinds, seen[:, len(known) :], above)
        for features in (steered, plain):
            similarity = projection(features - centre) @ unit[known].T
            wanted = features @ centred.T
            loss = loss + 5.0 * (1 - correlation(similarity, wanted).mean())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 150 == 0 or step == config.steps - 1:
            log.info("space: step %d of %d, loss %.4f", step, config.steps, loss.item())
    if config.centred:
        projection.centre_at(centre)
    return Space(
        projection,
        F.normalize(table.detach(), dim=-1),
        F.normalize(kind_table.detach(), dim=-1),
        float(log_scale.detach().exp()),
    )


def _seen(answer: Tensor, above: Tensor) -> Tensor:
    leaves = F.softmax(answer, dim=-1)
    return torch.cat([leaves, leaves @ above.T], dim=1)  # (B, known + H)


@torch.no_grad()
def _initial_space(photos: Photos, centred: Tensor, known: Tensor, kinds: Kinds, config: FitConfig) -> Space:
    """The principal directions of the centred rows, in which the rows themselves are the anchors, and of the photos."""
    directions = torch.linalg.svd(centred, full_matrices=False).Vh[: config.dim - config.variance]
    if config.variance:
        rest = photos.features[:, :SHARP_VIEWS].flatten(0, 1)
        rest = rest - rest.mean(0)
        rest = rest - rest @ directions.T @ directions
        directions = torch.cat([directions, torch.linalg.eigh(rest.T @ rest).eigenvectors.T.flip(0)[: config.variance]])
    projection = Projection(centred.shape[1], config.dim)
    projection.weight.copy_(directions)
    projection.bias.copy_(-directions @ photos.features[:, :SHARP_VIEWS].mean((0, 1)))
    anchors = F.normalize(torch.randn(len(photos.names), config.dim), dim=-1)
    anchors[known] = F.normalize(centred @ directions.T, dim=-1)
    seen = projection(photos.features[:, 0])
    for c in range(1000, len(photos.names)):
        if (mine := photos.label == c).any():
            anchors[c] = F.normalize(seen[mine].mean(0) - seen.mean(0), dim=-1)
    return Space(projection, anchors, F.normalize(kinds.members[:, known] @ anchors[known], dim=-1), scale=25.0)
