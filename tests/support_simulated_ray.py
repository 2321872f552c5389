"""A Ray for tests in which time passes at once: what becomes of each task is known, and so is when."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from lsn_core.cluster.crew import Crew, Greeting
from lsn_core.cluster.head import Head
from lsn_core.cluster.progress import Limit

NEVER = math.inf
_END = 1e6


class RayError(Exception):
    """As Ray's own."""


class RayTaskError(RayError):
    """As Ray's own."""


@dataclass(eq=False)
class Actor:
    """One that does two tasks at a time, number by number; `seconds` says how long each number takes it."""

    name: int
    seconds: Callable[[int, int], float]
    ends: dict[tuple[int, ...], list[float]] = field(default_factory=dict)
    dead: bool = False


@dataclass(eq=False)
class Reference:
    """What will be ready at a time."""

    at: float
    value: Callable[[], Any]


class SimulatedRay:
    """The part of the module ray that a crew uses."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self) -> None:
        self.now, self.killed, self.questions = 0.0, list[Actor](), 0

    def monotonic(self) -> float:
        """The time."""
        return self.now

    def wait(self, refs: list[Reference], num_returns: int, timeout: float) -> tuple[list[Reference], list[Reference]]:
        """Time passes until one is ready, or until the timeout."""
        assert self.now < _END, "it goes on for ever"
        first = min(refs, key=lambda ref: ref.at)
        if first.at > self.now + timeout:
            self.now += timeout
            return [], refs
        self.now = max(self.now, first.at)
        return [first], [ref for ref in refs if ref is not first]

    def get(self, ref: Reference) -> Any:
        """The value of one that is ready."""
        assert ref.at <= self.now
        return ref.value()

    def kill(self, actor: Actor) -> None:
        """Ends an actor."""
        actor.dead = True
        self.killed.append(actor)

    def nodes(self) -> list[dict[str, object]]:
        """One machine."""
        return [{"NodeID": "one", "Alive": True}]


class SimulatedJob:
    """Lists of numbers to lists of squares.

    Args:
        seconds: of an actor's number, counted from 0, and a number to square: how long it takes it.
        delay: seconds until a task comes to its actor.
    """

    def __init__(self, ray: SimulatedRay, seconds: Callable[[int, int], float], delay: float = 0.0) -> None:
        self.ray, self.seconds, self.delay = ray, seconds, delay
        self.actors: list[Actor] = []

    def start(self) -> tuple[Actor, Reference]:
        """As of a `Job`."""
        actor = Actor(len(self.actors), self.seconds)
        self.actors.append(actor)
        return actor, Reference(self.ray.now + 1, lambda: Greeting("one"))

    def send(self, actor: Actor, greeting: Greeting, task: list[int]) -> tuple[Reference, list[int], None]:
        """As of a `Job`."""
        at, ends = self.ray.now + self.delay, []
        for number in task:
            at += actor.seconds(actor.name, number)
            ends.append(at)
        actor.ends[tuple(task)] = [self.ray.now + self.delay, *ends]
        return Reference(at, lambda: [number**2 for number in task]), task, None

    def divide(self, task: list[int]) -> list[list[int]]:
        """As of a `Job`."""
        return [[number] for number in task]

    def give_up(self, task: list[int]) -> list[int | str]:
        """As of a `Job`."""
        return [f"{task[0]} is deadly"]

    def progress(self, actor: Actor, task: list[int]) -> Reference:
        """As a `Limit` asks it."""
        self.ray.questions += 1
        begun, *ends = actor.ends[tuple(task)]

        def steps() -> int | None:
            return sum(end <= self.ray.now for end in ends) if begun <= self.ray.now else None

        return Reference(self.ray.now + 0.1, steps)

    def crew(self, size: int, hung_after: float | None, head: Head | None = None) -> Crew[list[int], list[int | str]]:
        """One that does it."""
        limit = None if hung_after is None else Limit(hung_after, self.progress)
        return Crew(self.ray, self, size, limit, head)


def by_four(numbers: Iterable[int]) -> list[list[int]]:
    """Lists of four."""
    numbers = list(numbers)
    return [numbers[start : start + 4] for start in range(0, len(numbers), 4)]
