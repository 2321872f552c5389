"""Choosing a combination of scores on training images with hidden classes."""

from __future__ import annotations

from pathlib import Path

import torch

from benchmarks.combination import choose, hide_classes
from benchmarks.harness.protocols import zoc_splits
from benchmarks.harness.setting import Setting
from lsn_core import get_preset
from lsn_core.backbones.backbone import Backbone
from lsn_core.metrics import auroc


def test_scores_that_help_each_other_are_chosen() -> None:
    generator = torch.Generator().manual_seed(0)

    def noise() -> tuple[torch.Tensor, torch.Tensor]:
        return torch.randn(400, generator=generator), torch.randn(400, generator=generator)

    # Two independent views of the same thing, and one that knows nothing.
    folds = [{name: (noise()[0] + shift, noise()[1]) for name, shift in (("left", 1), ("right", 1), ("blind", 0))}]
    steps = choose(folds)
    assert set(steps[-1][0]) == {"left", "right"}
    values = [value for _, value in steps]
    assert values == sorted(values)
    single = max(auroc(*folds[0][name]) for name in folds[0])
    assert values[0] == single < values[-1]


def test_hidden_classes_come_from_the_training_images_alone(
    embedded: Backbone, shared_data: Path, tmp_path: Path
) -> None:
    split = zoc_splits(shared_data, "CIFAR10")[0]
    setting = Setting(embedded, split, get_preset("fast", shots=8), tmp_path)
    drawn, hidden_once = set(setting.drawn.data.names), []
    for fold in hide_classes(setting):
        (hidden,) = fold.split.ood.values()
        assert not set(fold.class_names) & set(hidden.class_names)
        parts = [set(part.names) for part in (fold.split.train, fold.split.id_test, hidden)]
        assert all(part <= drawn for part in parts)
        assert not parts[0] & parts[1]
        hidden_once += hidden.class_names
    assert sorted(hidden_once) == sorted(split.train.class_names)
