"""The linear classifier of image features that post-hoc methods read."""

from __future__ import annotations

import warnings
from inspect import signature
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from torch import Tensor, nn

# scikit-learn from 1.8 on, which Python 3.10 has not, wants to be told what was the rule before.
_KNOWN = signature(LogisticRegressionCV).parameters
_NEW: dict[str, Any] = {"use_legacy_attributes": False, "l1_ratios": (0,)} if "use_legacy_attributes" in _KNOWN else {}


FEW = 200
"""With more classes, the strength of the classifier's penalty is chosen on so many of them."""


class Classifier:
    """A logistic regression of P-dimensional features that were divided by their mean length.

    Attributes:
        linear: P -> C.
        features: of the images it learned from, shape (N, P); `labels`, shape (N,).
    """

    def __init__(self, features: Tensor, labels: Tensor) -> None:
        self.unit = float(features.norm(dim=-1).mean())
        self.features, self.labels = features / self.unit, labels
        counts = np.bincount(labels.numpy())
        strength = None if counts.min() >= 6 else 10.0
        if strength is None and len(counts) > FEW:  # hours for a thousand classes
            some = labels < FEW
            strength = cross_validated(self.features[some], labels[some])
        self.linear = logistic_regression(self.features, labels, strength)

    def read(self, features: Tensor) -> Tensor:
        """Other images' features (N, P) in its own unit."""
        return features / self.unit

    @torch.no_grad()
    def logits(self, features: Tensor) -> Tensor:
        """Of images' features (N, P): shape (N, C)."""
        return self.linear(self.read(features))


def cross_validated(features: Tensor, labels: Tensor) -> float:
    """The inverse of the L2 penalty that threefold cross-validation chooses; arguments as of `logistic_regression`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = _cross_validation().fit(features.numpy(), labels.numpy())
    return float(np.ravel(found.C_)[0])


def _cross_validation() -> LogisticRegressionCV:
    return LogisticRegressionCV(Cs=np.logspace(-1, 3, 5), cv=3, scoring="accuracy", max_iter=1000, **_NEW)


def logistic_regression(features: Tensor, labels: Tensor, strength: float | None) -> nn.Linear:
    """A logistic regression (scikit-learn's) as a linear layer.

    Args:
        features: shape (N, P).
        labels: class indices, shape (N,), at least two classes.
        strength: inverse of the L2 penalty; None chooses it by threefold cross-validation.
    """
    kind = _cross_validation() if strength is None else LogisticRegression(C=strength, max_iter=1000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        kind.fit(features.numpy(), labels.numpy())
    weight, bias = np.atleast_2d(kind.coef_), np.atleast_1d(kind.intercept_)
    if len(weight) == 1:  # two classes share one direction
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    linear = nn.Linear(features.shape[1], len(weight))
    linear.weight.data = torch.tensor(weight, dtype=torch.float32)
    linear.bias.data = torch.tensor(bias, dtype=torch.float32)
    return linear
