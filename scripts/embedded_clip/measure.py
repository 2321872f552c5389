"""What an image side is worth, on photos that nothing was fitted to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lsn_core.metrics import ood_metrics
from lsn_core.scores.matching import mcm
from scripts.embedded_clip.photos import Photos

DRAWS = 5
BINS = 15


@dataclass(frozen=True)
class Labelled:
    """Projected photos (N, D) of one set, their labels (N,) and the directions (C, D) of its names, all unit length."""

    features: Tensor
    labels: Tensor
    directions: Tensor

    @property
    def top1(self) -> float:
        """Share of photos that are nearest to their own class."""
        return float(((self.features @ self.directions.T).argmax(-1) == self.labels).float().mean())

    def logits(self, scale: float) -> Tensor:
        """(N, C)."""
        return scale * self.features @ self.directions.T


def unknown_classes(photos: Labelled, seed: int = 0, share: float = 0.4) -> tuple[float, float]:
    """AUROC and FPR95 of MCM (τ = 1) with that share of the classes known, the mean of five draws of them."""
    found = []
    present = photos.labels.unique().numpy()
    for draw in range(DRAWS):
        order = np.random.default_rng((seed, draw)).permutation(present).tolist()
        count = max(2, round(share * len(present)))
        found.append(known_before_unknown(photos, order[:count], photos, order[count:]))
    auroc, fpr95 = np.mean(found, axis=0)
    return float(auroc), float(fpr95)


def known_before_unknown(
    known: Labelled, inside: list[int], unknown: Labelled, outside: list[int]
) -> tuple[float, float]:
    """AUROC and FPR95 of MCM (τ = 1): photos of the classes `inside` of one set against those `outside` of another."""
    directions = known.directions[inside]
    score = [
        mcm(photos.features[torch.isin(photos.labels, torch.tensor(classes))] @ directions.T).numpy()
        for photos, classes in ((known, inside), (unknown, outside))
    ]
    metrics = ood_metrics(*score)
    return metrics.auroc, metrics.fpr95


def kept_sets(kept: Photos, project: torch.nn.Module, directions: Tensor, view: int = 0) -> dict[int, Labelled]:
    """The kept photos by their group of names, ImageNet's 1,000 being group 0."""
    sets = {}
    for group in kept.group.unique().tolist():
        mine = kept.group == group
        members = torch.where(kept.group_of_name == group)[0]
        place = torch.full((len(kept.names),), -1)
        place[members] = torch.arange(len(members))
        with torch.no_grad():
            features = project(kept.features[mine, view])
        sets[group] = Labelled(features, place[kept.label[mine]], F.normalize(directions[members], dim=-1))
    return sets


def best_scale(sets: list[Labelled]) -> float:
    """1 / temperature with the least negative log likelihood, each set counted alike."""
    scales = np.geomspace(3.0, 100.0, 141)
    losses = [
        float(np.mean([float(F.cross_entropy(s.logits(float(scale)), s.labels)) for s in sets])) for scale in scales
    ]
    return float(scales[int(np.argmin(losses))])


def calibration_error(photos: Labelled, scale: float) -> float:
    """Expected calibration error (Guo et al., 2017) in 15 bins of equal width, in [0, 1]."""
    confidence, answer = photos.logits(scale).softmax(-1).max(-1)
    right = (answer == photos.labels).float()
    bins = (confidence * BINS).long().clamp_max(BINS - 1)
    gaps = torch.zeros(BINS).index_add(0, bins, confidence - right)
    return float(gaps.abs().sum() / len(confidence))
