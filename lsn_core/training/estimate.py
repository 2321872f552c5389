"""How long training will take on this machine: a few steps of each kind are tried, and counted up."""

from __future__ import annotations

import time

import torch
import torch.nn.functional as F

from lsn_core.backbones.backbone import Backbone
from lsn_core.training.choice import make_folds
from lsn_core.training.config import TrainConfig
from lsn_core.training.phase import Phase
from lsn_core.training.shots import draw_shots

_TRIED = 2  # steps of each kind, after one that warms up


def estimate_seconds(backbone: Backbone, config: TrainConfig, classes: int = 10, images: int = 64) -> float:
    """About how long `train` will take, without the encoding of the images.

    Args:
        backbone: a promptable one.
        config: as for `train`.
        classes: how many there will be, at least 2.
        images: of each class, at least 2; no more than `config.shots` count.

    Returns:
        Seconds, by steps on features that are made up: what they are makes no difference to the time.
    """
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(classes).repeat_interleave(images)
    features = F.normalize(torch.randn(len(labels), backbone.dim, generator=generator), dim=-1)
    names = [f"class {number}" for number in range(1, classes + 1)]
    shots = draw_shots(features, labels, names, backbone.dim, config.shots, config.calibration_share, config.seed)
    folds = make_folds(shots, classes, config.seed) if config.choose_score else []
    rounds = 1 + sum(len(fold.known) / classes for fold in folds)  # a fold learns the same again on some of the classes
    seconds = 0.0
    for kind, settings in (("positive", config.positive), ("negative", config.negative)):
        if settings.sets:
            phase = Phase(kind, settings, config, names, backbone, shots)
            seconds += phase.total * _seconds_of_a_step(phase)
    return rounds * seconds


def _seconds_of_a_step(phase: Phase) -> float:
    phase.step(0)
    begun = time.perf_counter()
    for step in range(1, 1 + _TRIED):
        float(phase.step(step % phase.total)[0])  # which waits for a GPU
    return (time.perf_counter() - begun) / _TRIED
