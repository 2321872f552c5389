"""Measurements of a table, one after the other: done here, or on a Ray cluster with the same rows in the same order."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch

from benchmarks.harness.measure import Row
from lsn_core import UserError
from lsn_core.cluster.address import chosen_address, connected
from lsn_core.cluster.crew import Crew, Greeting
from lsn_core.cluster.head import Head
from lsn_core.cluster.room import Room

log = logging.getLogger(__name__)

Unit = Callable[[], list[Row]]
"""One measurement: one method, one seed and one split."""
Clock = defaultdict[str, float]
Run = Callable[[Iterable[Unit], Clock], list[Row]]
"""Does all units, and gives their rows in order; a clock gathers what parts of the work took."""
Make = Callable[[Run], object]
"""Makes a whole table, whose units are done by the function given; can be pickled."""
Kept = TypeVar("Kept")


def here(units: Iterable[Unit], clock: Clock) -> list[Row]:
    """One unit after the other, in this process."""
    return [row for unit in units for row in unit()]


class Latest(Generic[Kept]):
    """The latest of things that units share, so that those before it can go."""

    def __init__(self) -> None:
        self._key: object = None
        self._made: Kept | None = None

    def get(self, key: object, make: Callable[[], Kept]) -> Kept:
        """The thing of this key, made unless it is the latest."""
        if self._made is None or key != self._key:
            self._made = None
            self._key, self._made = key, make()
        return self._made


@dataclass(frozen=True)
class Place:
    """Which unit: the how manieth call of `Run` in making the table, and the how manieth unit of it."""

    call: int
    unit: int


class _Captured(Exception):
    """The units of a call of `Run`, which are wanted instead of their rows."""

    def __init__(self, units: list[Unit], clock: Clock) -> None:
        self.units, self.clock = units, clock


def units_of(make: Make, call: int) -> tuple[list[Unit], Clock]:
    """The units of one call of `Run`; calls before it are given no rows."""
    calls = iter(range(call + 1))

    def run(units: Iterable[Unit], clock: Clock) -> list[Row]:
        if next(calls) == call:
            raise _Captured(list(units), clock)
        return []

    try:
        make(run)
    except _Captured as captured:
        return captured.units, captured.clock
    raise ValueError(f"the table has no call {call}")


class Measurer:
    """The actor that does units. It makes the same table as whoever asks, up to the units, and does those asked for."""

    def greet(self, make: Make, threads: int, folder: str) -> Greeting:
        """Makes ready; numbers are the same to the last digit only with the same number of threads."""
        import ray

        torch.set_num_threads(threads)
        if os.path.isdir(folder):
            os.chdir(folder)
        self._make, self._call = make, -1
        return Greeting(ray.get_runtime_context().get_node_id())

    def measure(self, place: Place) -> tuple[list[Row], dict[str, float]]:
        """The rows of a unit, and what it added to the clock."""
        if place.call != self._call:
            self._units, self._clock = units_of(self._make, place.call)
            self._call = place.call
        self._clock.clear()
        return self._units[place.unit](), dict(self._clock)


class OnCluster:
    """A `Run` whose units are done by workers of a Ray cluster, which see the same folders by the same paths.

    Args:
        address: see `lsn_core.cluster.address.connect`.
        make: makes the table.
    """

    def __init__(self, address: str | None, make: Make) -> None:
        self._address, self._make = address, make
        self._calls = 0

    def __call__(self, units: Iterable[Unit], clock: Clock) -> list[Row]:
        call, count = self._calls, sum(1 for _ in units)
        self._calls += 1
        rows: list[Row] = []
        address = chosen_address(self._address)
        with connected(address) as ray, (head := Head(ray, address)).explained():
            room = _room(ray.nodes())
            crew = Crew(ray, _Measuring(ray, self._make, room), min(room.workers, count), head=head)
            for found, spent in crew.run(Place(call, unit) for unit in range(count)):
                rows += found
                for part, seconds in spent.items():
                    clock[part] += seconds
                if found:
                    log.info("%s, seed %s, %s", *(found[0].get(name) for name in ("split", "seed", "method")))
        return rows


def _room(nodes: Sequence[dict[str, Any]]) -> Room:
    """One worker a GPU, or else for as many CPUs as this process has threads."""
    threads = torch.get_num_threads()
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    gpus = int(sum(has.get("GPU", 0) for has in alive))
    if gpus:
        return Room(gpus, 1, 1)
    workers = sum(int(has.get("CPU", 0)) // threads for has in alive)
    if not workers:
        raise UserError(
            f"No machine of the Ray cluster has {threads} CPUs, one for each thread of this process, without which "
            "numbers would differ in their last digits. Set OMP_NUM_THREADS to fewer."
        )
    return Room(workers, threads)


class _Measuring:
    """The job of a `Crew` that does units."""

    def __init__(self, ray: Any, make: Make, room: Room) -> None:
        self._greeting = ray.put(make), torch.get_num_threads(), os.getcwd()
        self._actor = ray.remote(num_cpus=room.cpus, num_gpus=room.gpus, max_restarts=0)(Measurer)

    def start(self) -> tuple[Any, Any]:
        actor = self._actor.remote()
        return actor, actor.greet.remote(*self._greeting)

    def send(self, actor: Any, greeting: Greeting, task: Place) -> tuple[Any, Place, Place | None]:
        return actor.measure.remote(task), task, None

    def divide(self, task: Place) -> Sequence[Place]:
        return [task]

    def give_up(self, task: Place) -> tuple[list[Row], dict[str, float]]:
        raise UserError(
            f"Each worker that did measurement {task.unit + 1} died. See the memory of the machines, and run it "
            "without --ray to see why."
        )
