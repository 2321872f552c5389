"""Whether workers get on with their tasks: one that hangs neither dies nor gives a result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Task = TypeVar("Task")

_QUESTIONS = 8  # in the time after which a worker counts as hung
_MULTIPLE = 3  # of the longest time in which one stood still and then went on


@dataclass(frozen=True)
class Limit(Generic[Task]):
    """How long a worker may be at a task without getting on with it.

    Attributes:
        seconds: after which it counts as hung, or three times the longest that any stood still before it went on.
        progress: asks an actor how far it is with a task: the reference of a number that changes as long as it gets on,
            or of None where the task has not come to it yet.
    """

    seconds: float
    progress: Callable[[Any, Task], Any]


@dataclass(eq=False)
class Progress:
    """What is known of a worker's task. Times are in seconds, by the clock of whoever asks.

    Attributes:
        of: the task, whatever it is known by.
        moved: when the worker last got on with it.
        asked: when it was last asked.
        waiting: whether an answer is awaited.
        steps: its last answer.
    """

    of: object
    moved: float
    asked: float
    waiting: bool = False
    steps: int | None = None


class Watch(Generic[Task]):
    """Tells which workers hang.

    Args:
        limit: how long they may stand still.
    """

    def __init__(self, limit: Limit[Task]) -> None:
        self._limit = limit
        self._longest = 0.0

    @property
    def patience(self) -> float:
        """Seconds after which a worker that stands still counts as hung."""
        return max(self._limit.seconds, _MULTIPLE * self._longest)

    def ask(self, progress: Progress, actor: Any, task: Task, now: float) -> Any | None:
        """Asks an actor how far it is, where it is time to: the reference of the answer."""
        if progress.waiting or now - progress.asked < self._limit.seconds / _QUESTIONS:
            return None
        progress.waiting, progress.asked = True, now
        return self._limit.progress(actor, task)

    def hear(self, progress: Progress, steps: int | None, now: float) -> None:
        """Takes an answer."""
        progress.waiting = False
        if steps is None or steps != progress.steps:
            self._longest = max(self._longest, now - progress.moved)
            progress.steps, progress.moved = steps, now
