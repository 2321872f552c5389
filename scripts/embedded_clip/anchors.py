"""The image side of the shared space: a linear projection of the trunk, and one anchor direction per labelled class.

The trunk's own classifier knows 1,000 classes of which the training photos show only a fifth. Under the linear
discriminant model that a softmax classifier assumes, the mean feature of class c is mu + S (w_c - w_mean), with S the
within-class covariance and w_c the classifier's row; so the classifier itself yields features of classes without photos.
Projection and anchors are learned on those and on the real photos together.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embedded_clip.vision import PhotoFeatures
from embedded_clip.wordnet import wnid_offset

log = logging.getLogger(__name__)


@dataclass
class Photos:
    """All training photos in one table; `label` indexes the names of all sets end to end, ImageNet's 1,000 first."""

    features: Tensor  # (N, V, 1280)
    label: Tensor  # (N,)
    group: Tensor  # (N,) which set's names it is classified among: 0 is ImageNet
    names: list[str]
    group_of_name: Tensor  # (L,)


def gather(sets: dict[str, PhotoFeatures], imagenet_names: list[str], wnids: list[str], held_out: set[int]) -> Photos:
    """Joins the sets; photos of held-out ImageNet classes (by index) and of sets' classes of those names are left out."""
    index = {wnid: i for i, wnid in enumerate(wnids)}
    hidden = {imagenet_names[i].lower() for i in held_out}
    names, groups = list(imagenet_names), [0] * len(imagenet_names)
    features, labels, group = [], [], []
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
    return Photos(torch.cat(features), torch.cat(labels), torch.cat(group), names, torch.tensor(groups))


def discriminant_means(photos: Photos, rows: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Estimated mean feature of each ImageNet class (1000, 1280) and a square root of the shared covariance."""
    known = photos.group == 0
    x, y = photos.features[known][:, :2], photos.label[known]  # the two full-size views
    classes = y.unique()
    means = torch.stack([x[y == c].flatten(0, 1).mean(0) for c in classes])
    centred = torch.cat([(x[y == c].flatten(0, 1) - m) for c, m in zip(classes, means, strict=True)])
    covariance = centred.T @ centred / len(centred)
    centred_rows = rows - rows.mean(0)
    shift = centred_rows @ covariance  # (1000, 1280)
    # One scale and one origin, fitted on the classes that do have photos.
    seen = shift[classes]
    scale = ((means - means.mean(0)) * (seen - seen.mean(0))).sum() / (seen - seen.mean(0)).square().sum()
    origin = means.mean(0) - scale * seen.mean(0)
    fit = F.cosine_similarity(means - means.mean(0), seen - seen.mean(0)).mean()
    log.info("discriminant means: scale %.3f, cosine to the means of %d photographed classes %.3f", scale, len(classes), fit)
    values, vectors = torch.linalg.eigh(covariance.double())
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    return origin + scale * shift, root.float()


class Projection(nn.Module):
    """The linear map from pooled trunk features to the shared space (open_clip's timm_proj='linear' with bias)."""

    def __init__(self, features: Tensor, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features.shape[-1], dim)
        with torch.no_grad():
            mean = features.mean(0)
            self.linear.bias.copy_(-self.linear.weight @ mean)

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(self.linear(x), dim=-1)


def fit_anchors(
    photos: Photos,
    rows: Tensor,
    bias: Tensor,
    held_out: set[int],
    dim: int,
    device: str,
    seed: int,
    steps: int = 3000,
    batch: int = 1024,
    temperature: float = 0.05,
    anchors: Tensor | None = None,
    projection: Projection | None = None,
) -> tuple[Projection, Tensor]:
    """Learns projection and anchors (L, dim). With `anchors` given they stay as they are (re-fit to the text tower)."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    count = len(rows)
    open_classes = torch.tensor([i for i in range(count) if i not in held_out])
    means, root = discriminant_means(photos, rows, bias)
    projection = projection or Projection(photos.features[:, 0], dim)
    fixed = anchors is not None
    table = nn.Parameter(anchors.clone() if anchors is not None else _initial_anchors(projection, means, photos, dim))
    table.requires_grad_(not fixed)
    projection.to(device)
    parameters = list(projection.parameters()) + ([] if fixed else [table])
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.1)
    teacher = (photos.features[:, 0] @ rows.T + bias)[:, open_classes]  # the plain view's own answer
    members = [torch.where(photos.group_of_name == g)[0] for g in range(int(photos.group_of_name.max()) + 1)]
    position = torch.empty(len(photos.names), dtype=torch.long)
    for group in members:
        position[group] = torch.arange(len(group))
    open_position = torch.full((count,), -1)
    open_position[open_classes] = torch.arange(len(open_classes))
    for step in range(steps):
        unit = F.normalize(table, dim=-1)
        # Features of all classes, photographed or not, from the discriminant model.
        drawn = open_classes[torch.randint(len(open_classes), (batch // 2,), generator=generator)]
        noise = torch.randn(len(drawn), root.shape[0], generator=generator) @ root
        z = projection((means[drawn] + noise).clamp_min(0).to(device))
        loss = F.cross_entropy(z @ unit[open_classes].T / temperature, open_position[drawn].to(device))
        # Real photos in all four views: the teacher's answer on the plain view, and the label among its set's names.
        picked = torch.randint(len(photos.label), (batch,), generator=generator)
        view = torch.randint(photos.features.shape[1], (batch,), generator=generator)
        z = projection(photos.features[picked, view].to(device))
        loss = loss + F.kl_div(
            F.log_softmax(z @ unit[open_classes].T / temperature, dim=-1),
            F.softmax(teacher[picked].to(device), dim=-1),
            reduction="batchmean",
        )
        for number, group in enumerate(members):
            mine = photos.group[picked] == number
            if not mine.any() or not len(group):
                continue
            among = open_classes if number == 0 else group
            target = open_position[photos.label[picked][mine]] if number == 0 else position[photos.label[picked][mine]]
            part = F.cross_entropy(z[mine.to(device)] @ unit[among].T / temperature, target.to(device), reduction="sum")
            loss = loss + part / batch
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 500 == 0 or step == steps - 1:
            log.info("anchors: step %d, loss %.4f", step, loss.item())
    return projection, F.normalize(table.detach(), dim=-1)


@torch.no_grad()
def _initial_anchors(projection: Projection, means: Tensor, photos: Photos, dim: int) -> Tensor:
    start = torch.empty(len(photos.names), dim)
    start[: len(means)] = projection(means.clamp_min(0))
    for c in range(len(means), len(photos.names)):
        mine = photos.features[photos.label == c]
        start[c] = projection(mine.flatten(0, 1)).mean(0) if len(mine) else torch.randn(dim)
    return F.normalize(start, dim=-1)
