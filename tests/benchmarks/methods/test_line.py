"""LINe against the same written out in NumPy for one image."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.harness.classifier import Classifier
from benchmarks.methods.line import CLIPPED, PRUNED, Line


def test_the_score_is_the_energy_of_what_pruning_leaves() -> None:
    torch.manual_seed(0)
    labels = torch.arange(60) % 3
    features = torch.randn(3, 20)[labels] + 0.3 * torch.randn(60, 20)
    classifier = Classifier(features, labels)
    x = classifier.features.numpy()
    weight, bias = (part.detach().numpy() for part in classifier.linear.parameters())
    importance = np.array([np.abs(x[labels.numpy() == c]).mean(axis=0) * np.abs(weight[c]) for c in range(3)])
    few = np.sort(importance.ravel())[int(PRUNED * importance.size)]
    most = np.sort(x.ravel())[int(CLIPPED * x.size)]
    image = classifier.read(features[:1] * 1.7).numpy()[0]
    c = int(np.argmax(weight @ image + bias))
    left = np.minimum(image, most) * (importance[c] > np.quantile(importance[c], PRUNED))
    logits = (weight * (importance > few)) @ left + bias
    found = Line.fit(classifier).score(torch.from_numpy(image)[None])
    assert float(found) == pytest.approx(np.log(np.exp(logits).sum()), rel=1e-5)
