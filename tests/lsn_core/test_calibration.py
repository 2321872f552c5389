"""Calibration: the finite-sample formula by hand, and the promise on fresh data."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lsn_core import UserError
from lsn_core.calibration import Calibration


def test_threshold_and_p_values_by_hand() -> None:
    calibration = Calibration([0.3, 0.1, 0.2, 0.4] + [0.5] * 35)  # M = 39: k = floor(40 * 0.05) = 2
    assert calibration.threshold(0.95) == 0.2
    assert calibration.p_values([0.05, 0.1, 0.15, 0.5, 0.9]).tolist() == pytest.approx([1 / 40, 2 / 40, 2 / 40, 1, 1])
    assert calibration.threshold(0.90) == 0.4
    assert Calibration.images_needed(0.95) == 19
    assert Calibration.images_needed(0.99) == 99


def test_too_few_images_reject_nothing() -> None:
    assert Calibration(np.arange(18)).threshold(0.95) == -math.inf
    assert Calibration(np.arange(19)).threshold(0.95) == 0.0
    assert Calibration([1.0]).p_values([-100.0]).tolist() == [0.5]


@pytest.mark.parametrize("tpr", [0.8, 0.9, 0.95, 0.99])
def test_threshold_and_p_value_agree(tpr: float) -> None:
    rng = np.random.default_rng(0)
    for size in (5, 19, 20, 57, 100, 999):
        calibration = Calibration(rng.integers(0, 30, size) / 7.0)  # many ties
        scores = rng.integers(-2, 32, 500) / 7.0
        rejected = scores < calibration.threshold(tpr)
        assert (rejected == (calibration.p_values(scores) <= 1 - tpr + 1e-12)).all()


@pytest.mark.parametrize(("size", "tpr"), [(19, 0.95), (40, 0.9), (200, 0.95), (333, 0.8)])
def test_false_alarm_rate_holds_on_fresh_data(size: int, tpr: float) -> None:
    """Over many draws of calibration and fresh ID images, at most 1 - tpr are rejected, and not far fewer."""
    rng = np.random.default_rng(size)
    trials, fresh = 4000, 20
    alarms = 0
    for _ in range(trials):
        calibration = Calibration(rng.gamma(2.0, size=size))
        alarms += int((rng.gamma(2.0, size=fresh) < calibration.threshold(tpr)).sum())
    rate = alarms / (trials * fresh)
    exact = math.floor((size + 1) * (1 - tpr) + 1e-9) / (size + 1)
    # Fresh images of one trial share a calibration set: the spread of a trial's rate is that of a beta distribution.
    error = 4 * math.sqrt(exact * (1 - exact) * (1 / (trials * fresh) + 1 / (trials * (size + 2))))
    assert abs(rate - exact) < error
    assert exact <= 1 - tpr + 1e-12


def test_bad_scores_are_refused() -> None:
    for scores in ([], [0.1, float("nan")], [float("inf")]):
        with pytest.raises(UserError):
            Calibration(scores)
    for tpr in (0.0, 1.0, -1.0, 2.0):
        with pytest.raises(UserError, match="between 0 and 1"):
            Calibration([1.0]).threshold(tpr)
