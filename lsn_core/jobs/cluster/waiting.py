"""Data sets that an attempt waits for."""

from __future__ import annotations

import threading
from collections.abc import Callable

from lsn_core.jobs.worker.attempt import Stopped

_ASK_SECONDS = 0.2


class Awaited:
    """Names that somebody waits for, until the other side says that they have come, or never will."""

    def __init__(self, stop: Callable[[], bool]) -> None:
        """Takes whether waiting makes no sense any more."""
        self._stop = stop
        self._names: list[str] = []
        self._change = threading.Condition()

    def get(self, name: str) -> None:
        """Returns once it has come or cannot be had. Raises Stopped."""
        with self._change:
            self._names.append(name)
            while name in self._names:
                if self._stop():
                    raise Stopped
                self._change.wait(_ASK_SECONDS)

    def names(self) -> tuple[str, ...]:
        """What is waited for."""
        with self._change:
            return tuple(self._names)

    def settle(self, name: str) -> None:
        """It has come, or cannot be had."""
        with self._change:
            self._names = [other for other in self._names if other != name]
            self._change.notify_all()
