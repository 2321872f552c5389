"""The head of VOS (Du et al., 2022) on features of an image tower that stays as it is.

VOS fits a Gaussian to the features of each class, all with one covariance, takes unlikely draws from it as virtual
outliers, and teaches the classifier to give them a higher energy, as a logistic regression on the energy tells. The
authors train the whole network so, and the paper's numbers are of a fine-tuned CLIP; here the classifier learns and a
residual layer before it, without which the energy, convex in the features, could not be lowest at the classes.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.harness.classifier import Classifier
from benchmarks.harness.images import Scorer
from benchmarks.harness.setting import Setting

STEPS, BATCH, RATE = 300, 512, 1e-3
WEIGHT = 0.1
"""Of the loss of energies beside the classes' cross-entropy, as the authors have it."""
DRAWN, CLASSES = 1000, 32
"""Draws of a class of which the least likely is a virtual outlier; classes that are drawn from at each step."""
RIDGE = 1e-2
"""Added to the covariance, as a share of its mean variance, as there are few images."""


def vos(setting: Setting) -> Scorer:
    """Trains the head; the score is the energy that it gives, negated."""
    classifier = setting.classifier
    head = train_head(classifier, setting.config.seed)
    return lambda images: head(classifier.read(images.embedding)).logsumexp(dim=-1).detach()


class Head(nn.Module):
    """The classifier behind a residual layer that begins as none: features (N, P) -> logits (N, C)."""

    def __init__(self, linear: nn.Linear, generator: torch.Generator) -> None:
        super().__init__()
        size = linear.in_features
        self.inner, self.outer = nn.Linear(size, size), nn.Linear(size, size)
        nn.init.normal_(self.inner.weight, std=size**-0.5, generator=generator)
        for zero in (self.inner.bias, self.outer.weight, self.outer.bias):
            nn.init.zeros_(zero)
        self.linear = nn.Linear(size, linear.out_features)
        self.linear.load_state_dict(linear.state_dict())

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(features + self.outer(self.inner(features).relu()))


def train_head(classifier: Classifier, seed: int) -> Head:
    """The classifier as `Head`, which also learned from virtual outliers."""
    x, y = classifier.features, classifier.labels
    generator = torch.Generator().manual_seed(seed)
    head = Head(classifier.linear, generator)
    told = nn.Linear(1, 1)
    nn.init.ones_(told.weight)
    nn.init.zeros_(told.bias)
    optimizer = torch.optim.Adam([*head.parameters(), *told.parameters()], RATE)
    means, factor = gaussians(x, y, classifier.linear.out_features)
    for _ in range(STEPS):
        chosen = torch.randint(len(x), (min(BATCH, len(x)),), generator=generator)
        logits = head(x[chosen])
        outliers = head(virtual_outliers(means, factor, generator))
        energies = torch.cat([logits.logsumexp(dim=-1), outliers.logsumexp(dim=-1)])
        known = torch.cat([torch.ones(len(logits)), torch.zeros(len(outliers))])
        uncertainty = F.binary_cross_entropy_with_logits(told(energies[:, None])[:, 0], known)
        loss = F.cross_entropy(logits, y[chosen]) + WEIGHT * uncertainty
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return head


def gaussians(features: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Means of the classes (C, P), and the lower Cholesky factor of their shared covariance (P, P)."""
    means = torch.stack([features[labels == c].mean(dim=0) for c in range(classes)])
    apart = features - means[labels]
    covariance = apart.T @ apart / len(apart)
    ridge = RIDGE * covariance.diagonal().mean().clamp_min(1e-6)
    return means, torch.linalg.cholesky(covariance + ridge * torch.eye(len(covariance)))


def virtual_outliers(means: Tensor, factor: Tensor, generator: torch.Generator) -> Tensor:
    """The least likely of `DRAWN` draws of each of some classes, shape (classes, P)."""
    chosen = torch.randperm(len(means), generator=generator)[:CLASSES]
    direction = F.normalize(torch.randn(len(chosen), means.shape[1], generator=generator), dim=-1)
    # In units of the covariance, the farthest of so many draws: the largest of so many chi-distributed lengths.
    random = np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator)))
    length = np.sqrt(random.chisquare(means.shape[1], (len(chosen), DRAWN)).max(axis=1))
    return means[chosen] + (direction * torch.from_numpy(length).float()[:, None]) @ factor.T
