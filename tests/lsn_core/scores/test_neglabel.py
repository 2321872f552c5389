"""NegLabel against its paper's formula in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lsn_core.scores.neglabel import log_mass


def test_the_sigmoid_of_the_score_is_the_classes_share_of_the_softmax() -> None:
    rng = np.random.default_rng(1)
    classes, nouns = rng.uniform(0, 0.3, (8, 5)), rng.uniform(0, 0.3, (8, 40))
    powers = np.exp(np.concatenate([classes, nouns], axis=1) / 0.01)
    share = powers[:, :5].sum(axis=1) / powers.sum(axis=1)
    score = log_mass(torch.tensor(classes), 0.01) - log_mass(torch.tensor(nouns), 0.01)
    assert score.sigmoid().numpy() == pytest.approx(share, rel=1e-9)


def test_images_far_from_all_nouns_are_still_told_apart() -> None:
    classes, nouns = torch.tensor([[1.0], [0.9]]), torch.zeros(2, 3)  # shares of 1 to seven decimals, both
    score = log_mass(classes, 0.01) - log_mass(nouns, 0.01)
    assert score[0] - score[1] == pytest.approx(10.0, abs=1e-4)
