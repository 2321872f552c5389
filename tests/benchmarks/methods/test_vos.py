"""VOS's head: virtual outliers lie outside the classes, and get less after training."""

from __future__ import annotations

import torch

from benchmarks.harness.classifier import Classifier
from benchmarks.methods.vos import gaussians, train_head, virtual_outliers
from lsn_core.metrics import auroc


def test_the_gaussians_are_those_of_the_features() -> None:
    torch.manual_seed(0)
    labels = torch.arange(4000) % 2
    mix = torch.tensor([[2.0, 0.0], [1.0, 0.5]])
    features = torch.tensor([[5.0, 0.0], [-5.0, 1.0]])[labels] + torch.randn(4000, 2) @ mix.T
    means, factor = gaussians(features, labels, 2)
    assert torch.allclose(means, torch.tensor([[5.0, 0.0], [-5.0, 1.0]]), atol=0.15)
    assert torch.allclose(factor @ factor.T, mix @ mix.T, atol=0.3)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.cat([virtual_outliers(means, factor, generator) for _ in range(50)])
    length = torch.stack(
        [torch.linalg.solve_triangular(factor, (drawn - mean).T, upper=False).norm(dim=0) for mean in means]
    )
    # The largest of 1,000 draws of two dimensions: about the square root of 2 log 1000 = 13.8.
    assert abs(length.amin(dim=0).median() - 3.8) < 0.2


def test_the_head_tells_virtual_outliers_better_than_the_classifier_that_it_began_as() -> None:
    torch.manual_seed(0)
    labels = torch.arange(400) % 4
    centres = 2 * torch.randn(4, 16)
    classifier = Classifier(centres[labels] + torch.randn(400, 16), labels)
    head = train_head(classifier, 0)
    means, factor = gaussians(classifier.features, labels, 4)
    generator = torch.Generator().manual_seed(1)
    outliers = torch.cat([virtual_outliers(means, factor, generator) for _ in range(50)])
    before, after = (
        auroc(*(layer(side).logsumexp(dim=-1).detach() for side in (classifier.features, outliers)))
        for layer in (classifier.linear, head)
    )
    assert after > before + 0.05
    assert (head(classifier.features).argmax(dim=-1) == labels).float().mean() > 0.95
