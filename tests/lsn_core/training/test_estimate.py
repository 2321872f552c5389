"""The estimate of a run's time beside the run."""

from __future__ import annotations

import time

import torch

from lsn_core import Backbone, get_preset, train
from lsn_core.training.estimate import estimate_seconds


def test_the_estimate_is_near_the_time_that_training_takes(tiny_backbone: Backbone) -> None:
    config = get_preset("fast", shots=8)
    about = estimate_seconds(tiny_backbone, config, classes=4, images=8)
    features = torch.randn(32, tiny_backbone.dim, generator=torch.Generator().manual_seed(1))
    begun = time.perf_counter()
    train(features, torch.arange(32) % 4, ["a", "b", "c", "d"], tiny_backbone, config)
    took = time.perf_counter() - begun
    assert took / 4 < about < took * 4  # other work on the machine makes it no nearer


def test_more_classes_more_sets_and_folds_take_longer(tiny_backbone: Backbone) -> None:
    paper = get_preset("paper")
    few = estimate_seconds(tiny_backbone, paper, classes=2, images=8)
    assert estimate_seconds(tiny_backbone, paper, classes=40, images=8) > 5 * few  # more batches, each dearer
