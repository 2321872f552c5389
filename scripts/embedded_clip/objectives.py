"""The losses of the image side, each of projected photos (B, D) against unit-length directions of classes and kinds."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SURE, ABSENT = 0.6, 0.05  # the classifier's probability of what is there, and of what is not
MARGIN = 0.05  # in units of cosine, of the ranking of known before unknown photos
FEWEST = 12  # photos on each side of a ranking, or it says too little


def distill(student: Tensor, teacher: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the classifier's answer, both (B, C) logits."""
    return F.kl_div(F.log_softmax(student, dim=-1), F.softmax(teacher, dim=-1), reduction="batchmean")


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's correlation of rows, (B,)."""
    return F.cosine_similarity(a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True))


def kinds_seen(z: Tensor, unit: Tensor, kinds: Tensor, scale: Tensor, seen: Tensor, straightness: float) -> Tensor:
    """Each kind that the classifier is sure of must beat all classes and kinds that it is sure are absent.

    Cosines to absent kinds should also be 0: where they are above, a kind of many classes is a little like everything,
    and where they stray to both sides, some strangers seem to prefer one kind to the others. While directions are
    learned the projection is left as it is, since what tells breeds apart should not suffer for what they share; when
    the text tower has fixed them (`kinds` without gradient), the projection comes towards them.

    Args:
        unit: anchors of the classes, shape (C, D), and `kinds` (H, D).
        seen: the classifier's probability of each class and kind, shape (B, C + H).
    """
    learning = kinds.requires_grad
    cosines = (z.detach() if learning else z) @ torch.cat([unit.detach(), F.normalize(kinds, dim=-1)]).T
    logits = cosines * scale.detach()
    against = logits.masked_fill(seen > ABSENT, -torch.inf).logsumexp(dim=1, keepdim=True)  # (B, 1)
    right = (seen > SURE).float()
    right[:, : len(unit)] = 0
    loss = ((F.softplus(against - logits) * right).sum(1) / right.sum(1).clamp_min(1)).mean()
    astray = (cosines * (seen < ABSENT)).square()[:, len(unit) :]
    return loss + straightness * astray.sum(1).mean()


def unknown_classes(z: Tensor, labels: Tensor, directions: Tensor) -> Tensor:
    """Ranks photos of some classes before those of the others by maximum concept matching (Ming et al., 2022, τ = 1).

    A draw of the photos' classes is called known; only the cosines to those are read. So cosines come to mean the same
    for every photo, where a softmax over all classes would be content with differences.

    Args:
        labels: class of each photo, shape (B,), and `directions` (C, D) of all classes.
    """
    present = labels.unique()
    share = float(torch.empty(1).uniform_(0.15, 0.6))
    known = present[torch.randperm(len(present))[: max(2, round(share * len(present)))]]
    inside = torch.isin(labels, known)
    return _ranked(z @ directions[known].T, inside, ~inside)


def unknown_kinds(z: Tensor, kinds: Tensor, seen: Tensor, members: Tensor) -> Tensor:
    """The same with kinds for known classes ("bird", "truck"): photos that surely show one, and surely none.

    The drawn kinds have no class in common. In half of the draws they are near one another, since classes that are
    known together often are, and a truck that is a little like a car should still be known for certain.

    Args:
        seen: the classifier's probability of each kind, shape (B, H).
        members: which classes each kind stands for, shape (H, C).
    """
    candidates = torch.where((seen > SURE).sum(0) >= 2)[0]
    order = candidates[torch.randperm(len(candidates))]
    if len(order) and torch.rand(1) < 0.5:
        order = order[(kinds[order] @ kinds[order[0]]).argsort(descending=True)]
    count, taken, known = int(torch.randint(3, 11, (1,))), torch.zeros(members.shape[1]), []
    for kind in order.tolist():
        if len(known) < count and not (members[kind] @ taken):
            known.append(kind)
            taken += members[kind]
    picked = seen[:, known]
    return _ranked(z @ kinds[known].T, (picked > SURE).any(1), (picked < ABSENT).all(1))


def _ranked(cosines: Tensor, inside: Tensor, outside: Tensor) -> Tensor:
    if min(int(inside.sum()), int(outside.sum())) < FEWEST:
        return cosines.sum() * 0.0
    score = cosines.amax(dim=1) - cosines.logsumexp(dim=1)  # log of MCM
    gap = score[inside][:, None] - score[outside]
    return F.softplus(-gap / MARGIN).mean()
