"""How far a run is: cells done, and the time that is left, by what was estimated and how that has turned out so far."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence

from benchmarks.paper.cells import Cell
from lsn_core.training.loop import Progress

log = logging.getLogger(__name__)

EVERY = 20.0  # seconds between two lines within a cell
FIRM = 60.0  # seconds for which the estimates are taken to have been right, lest the first cells say too much


class Clock:
    """Lines of progress.

    Args:
        estimates: seconds of encoding and of the rest, for each group of cells that share a training, by that.
        cells: of the whole run, and `done` of them before it.
    """

    def __init__(self, estimates: Mapping[object, tuple[float, float]], cells: int, done: int = 0) -> None:
        self.estimates, self.cells, self.done = dict(estimates), cells, done
        self._begun = self._said = time.monotonic()
        self._estimated, self._spent = [0.0, 0.0], [0.0, 0.0]  # encoding, the rest
        self._now = ""

    def begin(self, group: Sequence[Cell]) -> None:
        """A group of cells is begun."""
        self._begun, self._now = time.monotonic(), group[0].name
        log.info("%s: %s", self, self._now)

    def end(self, group: Sequence[Cell], encoding: float) -> None:
        """It is done, or has failed, after so many seconds of encoding among the others."""
        spent = (encoding, time.monotonic() - self._begun - encoding)
        for part, seconds in enumerate(self.estimates.pop(group[0].training, (0.0, 0.0))):
            self._spent[part] += spent[part]
            self._estimated[part] += seconds
        self.done += len(group)
        log.info("%s", self)

    def left(self) -> float:
        """Seconds: the estimates of what is left, times how much longer what is done took than was estimated.

        Of encoding and of the rest apart, as images that an earlier run encoded cost nothing.
        """
        seconds = 0.0
        for part, (spent, estimated) in enumerate(zip(self._spent, self._estimated, strict=True)):
            factor = (spent + FIRM) / (estimated + FIRM)
            seconds += factor * sum(estimate[part] for estimate in self.estimates.values())
        return seconds

    def __str__(self) -> str:
        return f"{self.done} of {self.cells} cells, about {in_words(self.left())} left"

    def training(self, progress: Progress) -> None:
        """A callback of the training."""
        self._say(f"{progress.phase} prompts, step {progress.step:,} of {progress.total:,}")

    def encoding(self, what: str) -> Callable[[int, int], None]:
        """A callback of the encoding of images."""
        return lambda done, total: self._say(f"encoding {what}, {done:,} of {total:,}")

    def scoring(self, what: str) -> Callable[[int, int], None]:
        """A callback of the scoring of images."""
        return lambda done, total: self._say(f"scoring {what}, {done:,} of {total:,}")

    def _say(self, part: str) -> None:
        if time.monotonic() - self._said >= EVERY:
            self._said = time.monotonic()
            log.info("%s: %s: %s", self, self._now, part)


def in_words(seconds: float) -> str:
    """A length of time as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days" if seconds < 730 * 86400 else f"{seconds / 86400 / 365.25:.1f} years"
