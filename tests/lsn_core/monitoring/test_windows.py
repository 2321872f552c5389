"""Verdicts by the hour and the day, the alarm, and verdicts that are not the detector's."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest

from lsn_core import UserError
from lsn_core.calibration import Calibration
from lsn_core.monitoring.windows import Monitor, window_start

ZONE = timezone(timedelta(hours=2))
EIGHT = datetime(2026, 5, 1, 8, 10, tzinfo=ZONE)
CALIBRATION = Calibration(np.arange(19) / 10)


def line(told: float, calibration: Calibration = CALIBRATION, **changes: Any) -> dict[str, Any]:
    """A verdict as `score --json` prints it."""
    p_value = float(calibration.p_values(told))
    verdict = "ID" if told >= calibration.threshold() else "OOD"
    return {"error": None, "score": told, "score_name": "lsn", "p_value": p_value, "verdict": verdict, **changes}


def test_hours_are_counted_apart() -> None:
    monitor = Monitor(CALIBRATION, "lsn")
    for minutes, score in ((0, -1.0), (1, 0.95), (49, 1.85), (50, 0.05), (200, 0.1)):
        monitor.add(EIGHT + timedelta(minutes=minutes), line(score))
    monitor.add(EIGHT, {"error": "no picture", "verdict": None, "score": None, "p_value": None})
    first, second, third = monitor.windows
    assert [window.start.hour for window in monitor.windows] == [8, 9, 11] and first.start.tzinfo is ZONE
    assert (first.photos, first.unknown, first.share_unknown) == (3, 1, pytest.approx(1 / 3))
    assert first.p_values == [1, 0, 0, 0, 0, 1, 0, 0, 0, 1]  # 0.05, 0.55, 1.0
    assert second.p_values == [1] + [0] * 9  # 0.1 is in the first tenth
    assert (third.photos, third.unreadable) == (1, 1)  # what comes late counts where it comes
    assert first.highest >= first.evidence > 0 and monitor.alarm is None


def test_a_closed_hour_gets_a_second_part() -> None:
    monitor = Monitor(CALIBRATION, "lsn")
    monitor.add(EIGHT, line(0.5))
    monitor.close()
    monitor.add(EIGHT - timedelta(hours=3), line(0.5))
    assert [(window.start.hour, window.photos) for window in monitor.windows] == [(8, 1), (8, 1)]


def test_days_begin_at_midnight_of_the_own_zone() -> None:
    assert window_start(EIGHT, "day") == datetime(2026, 5, 1, tzinfo=ZONE)
    assert window_start(EIGHT, "hour") == datetime(2026, 5, 1, 8, tzinfo=ZONE)


def test_the_alarm_is_raised_once_and_says_when() -> None:
    monitor = Monitor(CALIBRATION, "lsn", "day", false_alarm=0.05)
    raised = [monitor.add(EIGHT + timedelta(minutes=n), line(-1.0 - n)) for n in range(40)]
    assert sum(raised) == 1
    assert monitor.alarm == EIGHT + timedelta(minutes=raised.index(True)) == monitor.windows[0].alarm
    assert monitor.windows[0].highest >= 20


def test_what_is_usual_takes_the_place_of_the_calibration() -> None:
    """A fifth of unknown photos is a change from the calibration, and none from a time that had a fifth as well."""
    chance = np.random.default_rng(0)
    calibration = Calibration(chance.normal(1, 0.5, 200))

    def scores(count: int) -> list[float]:
        return np.where(chance.random(count) < 0.3, chance.normal(-3, 1, count), chance.normal(1, 0.5, count)).tolist()

    usual, stream = scores(300), scores(300)
    alarms = []
    for reference in (None, usual):
        monitor = Monitor(calibration, "lsn", usual=reference)
        alarms.append(any([monitor.add(EIGHT, line(score, calibration)) for score in stream]))
    assert alarms == [True, False]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"p_value": None}, "--calibrate"),
        ({"p_value": 0.3333}, "calibration"),
        ({"score_name": "mcm"}, "'mcm'"),
        ({"score": None}, "no verdict"),
        ({"score": float("nan")}, "no verdict"),
        ({"score": "1"}, "no verdict"),
    ],
)
def test_other_lines_are_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Monitor(CALIBRATION, "lsn").add(EIGHT, line(0.5, **changes))


@pytest.mark.parametrize("alpha", [0.0, 1.0, -1.0, float("nan")])
def test_a_chance_lies_between_0_and_1(alpha: float) -> None:
    with pytest.raises(UserError, match="between 0 and 1"):
        Monitor(CALIBRATION, "lsn", false_alarm=alpha)
