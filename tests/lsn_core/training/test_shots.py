"""The images that training draws: by seed, in equal numbers, and none both trained on and held out."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from lsn_core.training.shots import draw_shots

NAMES = ["cat", "great white shark", "hen"]


def test_shots_are_drawn_by_seed_and_never_calibrate_what_they_trained_on() -> None:
    features = F.normalize(torch.randn(90, 64, generator=torch.Generator().manual_seed(0)), dim=-1)
    labels = np.arange(90) % len(NAMES)
    drawn, again, other = (draw_shots(features, labels, NAMES, 64, 10, 0.2, seed) for seed in (0, 0, 1))
    assert torch.equal(drawn.features, again.features) and not torch.equal(drawn.features, other.features)
    assert torch.bincount(drawn.labels).tolist() == [8, 8, 8]
    assert torch.bincount(drawn.held_out_labels).tolist() == [2, 2, 2]
    assert not (drawn.features[:, None] == drawn.held_out[None]).all(dim=-1).any()
