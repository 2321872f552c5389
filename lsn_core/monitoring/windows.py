"""Verdicts on photos in the order of their times, counted by the hour or the day, and the alarm."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from lsn_core.calibration import Calibration
from lsn_core.errors import UserError
from lsn_core.monitoring.evidence import Evidence

BINS = 10
Period = Literal["hour", "day"]


@dataclass
class Window:
    """What came in an hour or a day.

    Attributes:
        start: its beginning, with the time zone.
        photos: that have a verdict.
        unknown: of these, photos of none of the classes.
        unreadable: photos without a verdict.
        p_values: photos by tenths of their p-values, shape (10,): (0, 0.1], ..., (0.9, 1]. About equal while the world
            is as it was.
        evidence: what the bet had become with the last of these photos.
        highest: the most that it had become with any of them.
        alarm: the time of the photo that raised the alarm, where it is one of these.
    """

    start: datetime
    photos: int = 0
    unknown: int = 0
    unreadable: int = 0
    p_values: list[int] = field(default_factory=lambda: [0] * BINS)
    evidence: float = 1.0
    highest: float = 0.0
    alarm: datetime | None = None

    @property
    def share_unknown(self) -> float | None:
        """In [0, 1]; None without a photo."""
        return self.unknown / self.photos if self.photos else None


class Monitor:
    """Counts verdicts and bets on their scores.

    Args:
        calibration: of the detector whose verdicts come; its scores are what new ones are compared with.
        score_name: of the detector.
        period: "hour" or "day".
        false_alarm: α in (0, 1): the chance that there is ever an alarm while new photos are like the reference.
        usual: scores to compare with instead, of photos of a usual time.

    Attributes:
        windows: those with a photo, in order.
        alarm: the time of the photo that raised the alarm; None before.

    Raises:
        UserError: α is not in (0, 1), or there is nothing to compare with.
    """

    def __init__(
        self,
        calibration: Calibration,
        score_name: str,
        period: Period = "hour",
        false_alarm: float = 0.01,
        usual: Iterable[float] | None = None,
    ) -> None:
        if not 0.0 < false_alarm < 1.0:
            raise UserError(
                f"The chance of a false alarm must lie between 0 and 1, not at {false_alarm}. 0.01 is usual."
            )
        self.period = period
        self.level = 1.0 / false_alarm
        self.windows: list[Window] = []
        self.alarm: datetime | None = None
        self._open = False
        self._calibration = calibration
        self._score_name = score_name
        self._evidence = Evidence(calibration.scores.tolist() if usual is None else usual)

    def add(self, when: datetime, line: Mapping[str, Any]) -> bool:
        """Takes one verdict; says whether it raised the alarm, which it does at most once.

        A photo that comes late is counted in the window that is open, or in a second part of one that was closed.

        Args:
            when: the time of the photo, with the time zone.
            line: of `score --json`.

        Raises:
            UserError: the line is no verdict of this detector and calibration.
        """
        score = self._check(line)
        start = window_start(when, self.period)
        if not self._open or start > self.windows[-1].start:
            last = self.windows[-1].start if self.windows else start
            self.windows.append(Window(max(start, last), evidence=self._evidence.capital))
            self._open = True
        window = self.windows[-1]
        if score is None:
            window.unreadable += 1
            return False
        window.photos += 1
        window.unknown += line["verdict"] == "OOD"
        window.p_values[math.ceil(line["p_value"] * BINS - 1e-9) - 1] += 1
        window.evidence = self._evidence.add(score)
        window.highest = max(window.highest, window.evidence)
        if self.alarm is not None or window.evidence < self.level:
            return False
        self.alarm = window.alarm = when
        return True

    def close(self) -> None:
        """Ends the last window."""
        self._open = False

    def _check(self, line: Mapping[str, Any]) -> float | None:
        if line.get("error") is not None:
            return None
        score = check_score(line, self._score_name)
        if line.get("p_value") is None:
            raise UserError(
                "The verdict has no p-value: it is not of a calibrated detector. Score with --calibrate FOLDER."
            )
        if line["p_value"] != float(self._calibration.p_values(score)):
            raise UserError(
                "The p-value is not what this detector's calibration gives for the score. Name the --detector, and the "
                "--calibrate if there was one, that the verdicts were made with."
            )
        return score


def check_score(line: Mapping[str, Any], score_name: str) -> float:
    """The score of a verdict without an error; a UserError where it is not a number of the score that has this name."""
    score = line.get("score")
    if (
        isinstance(score, bool)
        or not isinstance(score, int | float)
        or not math.isfinite(score)
        or "verdict" not in line
    ):
        raise UserError("This is no verdict: it lacks a score. Lines of `lsn score --json` are read.")
    if line.get("score_name", score_name) != score_name:
        raise UserError(
            f"The score is {line['score_name']!r}, and the detector's is {score_name!r}. Name the detector it is of."
        )
    return float(score)


def window_start(when: datetime, period: Period) -> datetime:
    """The hour or the day, in the time's own zone, that a time is in."""
    hour = when.replace(minute=0, second=0, microsecond=0)
    return hour if period == "hour" else hour.replace(hour=0)
