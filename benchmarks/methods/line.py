"""LINe (Ahn et al., 2023) of the paper's Table 8, on a linear classifier of the image tower's features.

The contribution of a neuron to a class is the mean of |activation x weight| over the class's training images: of a
linear layer, the Taylor approximation of the Shapley value is exact. Activations above a threshold are clipped; of the
activations only the predicted class's largest contributors are kept, and of the weights only the largest contributors.
The score is the energy of what is left. The authors prune a ResNet's rectified features; CLIP's have both signs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.harness.classifier import Classifier
from benchmarks.harness.images import Images, Scorer
from benchmarks.harness.setting import Setting

PRUNED = 0.1
"""Share of activations, and of weights, that is left out, as the authors have it for ImageNet."""
CLIPPED = 0.95
"""Quantile of the training activations above which they are clipped (ReAct's way of choosing; the authors give 0.8 for
their ResNet)."""


@dataclass(frozen=True)
class Line:
    """What is fitted.

    Attributes:
        weight: of the classifier, the small contributors set to 0, shape (C, P); `bias`, shape (C,).
        whole: the classifier's own weight, which predicts the class, shape (C, P).
        kept: for each class, which activations count, shape (C, P).
        most: activations above it are clipped.
    """

    weight: Tensor
    bias: Tensor
    whole: Tensor
    kept: Tensor
    most: float

    @classmethod
    @torch.no_grad()
    def fit(cls, classifier: Classifier) -> Line:
        features, labels, linear = classifier.features, classifier.labels, classifier.linear
        whole = linear.weight.detach()
        size = torch.stack([features[labels == c].abs().mean(dim=0) for c in range(len(whole))])  # (C, P)
        contribution = size * whole.abs()
        kept = contribution > contribution.quantile(PRUNED, dim=1, keepdim=True)
        ordered = contribution.flatten().sort().values
        weight = whole * (contribution > ordered[int(PRUNED * len(ordered))])
        sorted_features = features.flatten().sort().values
        return cls(
            weight, linear.bias.detach(), whole, kept, float(sorted_features[int(CLIPPED * len(sorted_features))])
        )

    @torch.no_grad()
    def score(self, features: Tensor) -> Tensor:
        """Of features in the classifier's unit (N, P): shape (N,), higher = more in-distribution."""
        predicted = (features @ self.whole.T + self.bias).argmax(dim=-1)
        left = features.clamp(max=self.most) * self.kept[predicted]
        return (left @ self.weight.T + self.bias).logsumexp(dim=-1)


def line(setting: Setting) -> Scorer:
    """LINe on the setting's classifier."""
    classifier = setting.classifier
    fitted = Line.fit(classifier)

    def score(images: Images) -> Tensor:
        return fitted.score(classifier.read(images.embedding))

    return score
