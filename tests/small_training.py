"""Trainings of seconds that several test files run: clouds of features of three classes, and few updates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F

from lsn_core import TrainConfig, get_preset

NAMES = ["cat", "great white shark", "hen"]


def clusters(dim: int, per_class: int = 10, seed: int = 0) -> tuple[torch.Tensor, np.ndarray]:
    """Image features in one cloud for each class."""
    generator = torch.Generator().manual_seed(seed)
    middles = torch.randn(len(NAMES), dim, generator=torch.Generator().manual_seed(77))
    labels = np.arange(len(NAMES) * per_class) % len(NAMES)
    noise = torch.randn(len(labels), dim, generator=generator)
    return F.normalize(middles[labels] + 0.7 * noise, dim=-1), labels


def small(preset: str = "fast", method: str = "coop", epochs: int = 2, **changes: object) -> TrainConfig:
    config = get_preset(preset, method)
    schedule = {"context_length": 3, "epochs": epochs, "updates": None}
    positive = replace(config.positive, batch_size=min(4, config.positive.batch_size), **schedule)
    negative = replace(config.negative, batch_size=min(4, config.negative.batch_size), **schedule)
    return replace(config, positive=positive, negative=negative, choose_score=False, **changes)
