"""Scores against their equations written out in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lsn_core.scores.lsn import difference, lsn, lsn_reference, lsn_single_temperature, min_cm, negatives_only
from lsn_core.scores.matching import max_cosine, mcm


def _softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x)
    return e / e.sum()


@pytest.fixture
def cosines() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    return rng.uniform(-1, 1, (7, 5)), rng.uniform(-1, 1, (7, 3, 5))  # N=7, K=3, C=5


def test_equations(cosines: tuple[np.ndarray, np.ndarray]) -> None:
    positive, negative = cosines
    p, n = torch.tensor(positive), torch.tensor(negative)
    for i in range(7):
        eq12 = _softmax(positive[i] / 1.0).max()
        eq13 = np.mean([_softmax(negative[i, k] / 5.0).min() for k in range(3)])
        eq9 = eq12 - np.mean([_softmax(negative[i, k]).min() for k in range(3)])
        reference = eq12 + np.mean([_softmax((1 - negative[i, k]) / 5.0).max() for k in range(3)])
        assert mcm(p)[i].item() == pytest.approx(eq12, abs=1e-12)
        assert min_cm(n)[i].item() == pytest.approx(eq13, abs=1e-12)
        assert lsn(p, n)[i].item() == pytest.approx(eq12 - eq13, abs=1e-12)
        assert lsn_single_temperature(p, n)[i].item() == pytest.approx(eq9, abs=1e-12)
        assert lsn_reference(p, n)[i].item() == pytest.approx(reference, abs=1e-12)
        assert negatives_only(n)[i].item() == pytest.approx(-eq13, abs=1e-12)
        gaps = [positive[i, c] - negative[i, :, c].mean() for c in range(5)]
        assert sum(difference(p, n))[i].item() == pytest.approx(max(gaps), abs=1e-12)
        assert max_cosine(p)[i].item() == pytest.approx(positive[i].max(), abs=1e-12)


def test_ranges(cosines: tuple[np.ndarray, np.ndarray]) -> None:
    positive, negative = (torch.tensor(c) for c in cosines)
    assert bool(((mcm(positive) >= 1 / 5) & (mcm(positive) <= 1)).all())
    assert bool(((min_cm(negative) > 0) & (min_cm(negative) <= 1 / 5)).all())
    flat = lsn(torch.zeros(1, 5), torch.zeros(1, 3, 5))
    assert flat.item() == pytest.approx(0.0, abs=1e-7)
