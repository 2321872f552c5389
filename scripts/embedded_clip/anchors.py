"""The image side of the shared space: a linear projection of the trunk, and one anchor direction per labelled class.

The trunk's own classifier knows 1,000 classes of which the training photos show only a fifth. What it knows of the
others is passed on by distillation on features of real photos steered towards those classes.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scripts.embedded_clip.vision import PhotoFeatures
from scripts.embedded_clip.wordnet import WordNet

log = logging.getLogger(__name__)

KIND_WEIGHT = 1.0
REFIT_KIND_WEIGHT = 0.15
STRANGER = 0.05  # cosine of a picture to a class it does not show
NEARNESS_WEIGHT = 2.0


@dataclass
class Photos:
    """All training photos in one table; `label` indexes the names of all sets end to end, ImageNet's 1,000 first."""

    features: Tensor  # (N, V, 1280)
    label: Tensor  # (N,)
    group: Tensor  # (N,) which set's names it is classified among: 0 is ImageNet
    is_small: Tensor  # (N,) whether the photos of its set are too small to be sharp (Tiny ImageNet)
    names: list[str]
    group_of_name: Tensor  # (L,)


@dataclass
class Kinds:
    """Synsets above ImageNet's classes ("dog", "bird", "vehicle"): which classes each stands for."""

    offsets: list[int]
    members: Tensor  # (H, 1000), 1.0 where the class is below the synset


def gather(sets: dict[str, PhotoFeatures], imagenet_names: list[str], wnids: list[str], held_out: set[int]) -> Photos:
    """Joins the sets without photos of held-out ImageNet classes (by index), or of other sets' classes so named."""
    index = {wnid: i for i, wnid in enumerate(wnids)}
    hidden = {imagenet_names[i].lower() for i in held_out}
    names, groups = list(imagenet_names), [0] * len(imagenet_names)
    features, labels, group, small = [], [], [], []
    for number, (name, photos) in enumerate(sets.items(), start=1):
        if photos.wnids is not None:
            mapping = torch.tensor([index[w] for w in photos.wnids])
            used = 0
        else:
            mapping = torch.arange(len(photos.class_names)) + len(names)
            names += photos.class_names
            groups += [number] * len(photos.class_names)
            used = number
        label = mapping[photos.labels]
        keep = torch.tensor([int(c) not in held_out and names[int(c)].lower() not in hidden for c in label])
        log.info("%s: %d photos, %d left out", name, len(label), int((~keep).sum()))
        features.append(photos.features[keep])
        labels.append(label[keep])
        group.append(torch.full((int(keep.sum()),), used))
        small.append(torch.full((int(keep.sum()),), name == "tinyimagenet"))
    return Photos(
        torch.cat(features), torch.cat(labels), torch.cat(group), torch.cat(small), names, torch.tensor(groups)
    )


class Projection(nn.Linear):
    """The linear map, with bias, from pooled trunk features to the shared space (open_clip's timm_proj='linear')."""

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(super().forward(x), dim=-1)


@dataclass
class Space:
    """The image side: its projection, unit-length anchors of all names (L, dim) and kinds (H, dim), 1 / temperature."""

    projection: Projection
    anchors: Tensor
    kinds: Tensor
    scale: float


def find_kinds(net: WordNet, offsets: list[int], held_out: set[int], largest: int = 450) -> Kinds:
    """All synsets strictly above the classes that may be seen, but for those so general that they hold most of them."""
    below: dict[int, list[int]] = {}
    for i, offset in enumerate(offsets):
        for ancestor in net.ancestors(offset):
            if i not in held_out and ancestor not in offsets:
                below.setdefault(ancestor, []).append(i)
    chosen = sorted(ancestor for ancestor, classes in below.items() if len(classes) <= largest)
    members = torch.zeros(len(chosen), len(offsets))
    for row, ancestor in enumerate(chosen):
        members[row, below[ancestor]] = 1.0
    return Kinds(chosen, members)


def fit_space(
    photos: Photos,
    rows: Tensor,
    bias: Tensor,
    held_out: set[int],
    kinds: Kinds,
    device: str,
    seed: int,
    start: Space | None = None,
    dim: int = 256,
    steps: int = 450,
    learning_rate: float = 3e-4,
) -> Space:
    """Learns projection and anchors; with `start` given, fits the projection and scale to its anchors as they are.

    Four terms: the trunk classifier's own answer on real and on steered features (distillation); the photos' labels
    among the names of their own set; the kinds that the classifier sees in a feature against all that it does not (the
    mean of the breeds' rows is no direction for "dog": rows tell breeds apart); and the correlation of all class
    similarities with the classifier's logits, which keeps what the projection knows of classes without photos.

    Args:
        rows: the trunk classifier's weights, shape (1000, 1280), and `bias` (1000,).
        held_out: ImageNet classes (by index) whose rows and photos must not be seen.
    """
    torch.manual_seed(seed)
    known = torch.tensor([i for i in range(len(rows)) if i not in held_out])
    rows, bias = rows[known], bias[known]
    centred = rows - rows.mean(0)
    space = start or _initial_space(photos, centred, known, kinds, dim)
    projection = space.projection.to(device)
    table = nn.Parameter(space.anchors.clone().to(device), requires_grad=start is None)
    kind_table = nn.Parameter(space.kinds.clone().to(device), requires_grad=start is None)
    above = kinds.members[:, known]
    log_scale = nn.Parameter(torch.tensor(space.scale, device=device).log())
    optimizer = torch.optim.AdamW(
        [
            {"params": projection.parameters(), "lr": learning_rate},
            {"params": [table, kind_table], "lr": 3 * learning_rate},
            {"params": [log_scale], "lr": 1e-3 if start is None else 1e-2},
        ],
        weight_decay=0.0,
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    x, sharp = photos.features, torch.where(~photos.is_small)[0]
    small = torch.where(photos.is_small)[0]
    covariance = torch.cov(x[sharp][:, :2].flatten(0, 1).T)
    steer = F.normalize(centred @ (covariance + 0.3 * covariance.diagonal().mean() * torch.eye(len(covariance))), dim=1)
    gain = (steer * centred).sum(1)
    members = {int(g): torch.where(photos.group_of_name == g)[0] for g in photos.group.unique()}
    members[0] = known
    place = torch.full((len(photos.names),), -1)
    for group in members.values():
        place[group] = torch.arange(len(group))
    half = 192
    weight_of_kinds = KIND_WEIGHT if start is None else REFIT_KIND_WEIGHT
    for step in range(steps):
        unit = F.normalize(table, dim=-1)
        # Real photos in any view; the classifier answers for the plain one.
        pick = torch.cat([sharp[torch.randint(len(sharp), (half,))], small[torch.randint(len(small), (128,))]])
        view = torch.randint(x.shape[1], (len(pick),))
        z = projection(x[pick, view].to(device))
        plain = x[pick[:half], 0]
        answer = plain @ rows.T + bias
        loss = _distill(z[:half] @ unit[known].T * log_scale.exp(), answer.to(device))
        loss = loss + weight_of_kinds * _kinds_seen(z[:half], unit[known], kind_table, log_scale.exp(), answer, above)
        labels, groups = photos.label[pick], photos.group[pick]
        for number, group in members.items():
            mine = groups == number
            if mine.any():
                logits = z[mine.to(device)] @ unit[group].T * log_scale.exp()
                weight = 0.25 if number == 0 else 0.5
                target = place[labels[mine]].to(device)
                loss = loss + weight * F.cross_entropy(logits, target, reduction="sum") / len(pick)
        # Real features pushed towards classes that no photo shows, far enough that the classifier believes it.
        pick, view = sharp[torch.randint(len(sharp), (half,))], torch.randint(2, (half,))
        goal = torch.randint(len(known), (half,))
        base = x[pick, view]
        logits = base @ rows.T + bias
        push = (logits.amax(1) + 6 * torch.rand(half) - logits[torch.arange(half), goal]) / gain[goal]
        steered = (base * (0.6 + 0.4 * torch.rand(half, 1)) + push[:, None] * steer[goal]).clamp_min(0)
        z = projection(steered.to(device))
        answer = steered @ rows.T + bias
        loss = loss + _distill(z @ unit[known].T * log_scale.exp(), answer.to(device))
        loss = loss + weight_of_kinds * _kinds_seen(z, unit[known], kind_table, log_scale.exp(), answer, above)
        for features in (steered, plain):
            similarity = projection(features.to(device)) @ unit[known].T
            wanted = (features @ centred.T).to(device)
            loss = loss + 5.0 * (1 - _correlation(similarity, wanted).mean())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 150 == 0 or step == steps - 1:
            log.info("space: step %d of %d, loss %.4f", step, steps, loss.item())
    return Space(
        projection.cpu(),
        F.normalize(table.detach(), dim=-1).cpu(),
        F.normalize(kind_table.detach(), dim=-1).cpu(),
        float(log_scale.detach().exp()),
    )


def _distill(student: Tensor, teacher: Tensor) -> Tensor:
    return F.kl_div(F.log_softmax(student, dim=-1), F.softmax(teacher, dim=-1), reduction="batchmean")


def _kinds_seen(z: Tensor, unit: Tensor, kinds: Tensor, scale: Tensor, answer: Tensor, above: Tensor) -> Tensor:
    """Each kind that the classifier is sure of must beat all classes and kinds that it is sure are absent.

    Absent kinds must also be no nearer than a stranger is, or a kind of many classes would be a little like everything.
    While directions are learned the projection is left as it is, since what tells breeds apart should not suffer for
    what they share; when the text tower has fixed them (`kinds` without gradient), the projection comes towards them.
    """
    leaves = F.softmax(answer, dim=-1)
    seen = torch.cat([leaves, leaves @ above.T], dim=1).to(z.device)  # (B, known + H)
    learning = kinds.requires_grad
    cosines = (z.detach() if learning else z) @ torch.cat([unit.detach(), F.normalize(kinds, dim=-1)]).T
    logits = cosines * scale.detach()
    against = logits.masked_fill(seen > 0.05, -torch.inf).logsumexp(dim=1, keepdim=True)  # (B, 1)
    right = (seen > 0.6).float()
    right[:, : len(unit)] = 0
    loss = ((F.softplus(against - logits) * right).sum(1) / right.sum(1).clamp_min(1)).mean()
    if not learning:
        return loss
    too_near = (F.relu(cosines - STRANGER) * (seen < 0.05)).square()[:, len(unit) :]
    return loss + NEARNESS_WEIGHT * too_near.sum(1).mean()


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    return F.cosine_similarity(a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True))


@torch.no_grad()
def _initial_space(photos: Photos, centred: Tensor, known: Tensor, kinds: Kinds, dim: int) -> Space:
    """The principal directions of the centred rows, in which the rows themselves are the anchors."""
    directions = torch.linalg.svd(centred, full_matrices=False).Vh[:dim]
    projection = Projection(centred.shape[1], dim)
    projection.weight.copy_(directions)
    projection.bias.zero_()
    anchors = F.normalize(torch.randn(len(photos.names), dim), dim=-1)
    anchors[known] = F.normalize(centred @ directions.T, dim=-1)
    seen = projection(photos.features[:, 0])
    for c in range(1000, len(photos.names)):
        if (mine := photos.label == c).any():
            anchors[c] = F.normalize(seen[mine].mean(0) - seen.mean(0), dim=-1)
    return Space(projection, anchors, F.normalize(kinds.members[:, known] @ anchors[known], dim=-1), scale=25.0)
