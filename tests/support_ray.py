"""A Ray cluster for tests: several machines, all of which are this one, and an actor that imports little."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lsn_core.cluster.address import connect, import_ray
from lsn_core.cluster.crew import Crew, Greeting
from lsn_core.cluster.head import Head
from lsn_core.cluster.progress import Limit
from lsn_core.errors import UserError

DEADLY, STUCK, WRONG = 13, 500, -1
_MEMORY = 150 * 2**20
_QUICK = {  # a machine that is gone is missed in a second
    "health_check_initial_delay_ms": 500,
    "health_check_period_ms": 300,
    "health_check_failure_threshold": 3,
}


@dataclass
class Machines:
    """A cluster whose head has no CPUs, so that all work goes to machines that may be taken away.

    Attributes:
        nodes: the machines, each with one CPU.
    """

    cluster: Any
    nodes: list[Any] = field(default_factory=list)

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return str(self.cluster.address)

    def add(self) -> None:
        """One more machine."""
        self.nodes.append(self.cluster.add_node(num_cpus=1, object_store_memory=_MEMORY))

    def lose(self) -> None:
        """The oldest machine goes without a word."""
        self.cluster.remove_node(self.nodes.pop(0), allow_graceful=False)


class Squares:
    """Squares numbers, slowly; one is deadly, and one has the first who meets it stop without an end."""

    def greet(self, folder: str, refused: str) -> Greeting:
        import ray

        node = ray.get_runtime_context().get_node_id()
        if refused:
            raise UserError(refused)
        self._stuck = Path(folder) / "stuck"
        (Path(folder) / str(os.getpid())).write_text(node)
        return Greeting(node)

    def work(self, numbers: list[int]) -> list[int | str]:
        time.sleep(0.05)
        if DEADLY in numbers:
            os.kill(os.getpid(), signal.SIGKILL)
        if STUCK in numbers and not self._stuck.exists():
            self._stuck.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGSTOP)
        if WRONG in numbers:
            raise UserError(f"{WRONG} is no number to square.")
        return [number**2 for number in numbers]

    def progress(self) -> int:
        """It tells nothing of it."""
        return 0


class Squaring:
    """Lists of numbers to lists of squares; each worker leaves its process id and machine in the folder."""

    def __init__(self, folder: Path, refused: str = "") -> None:
        import ray

        self.folder, self.refused = folder, refused
        self.actor = ray.remote(num_cpus=1, max_concurrency=3, scheduling_strategy="SPREAD")(Squares)

    def start(self) -> tuple[Any, Any]:
        """As of a `Job`."""
        actor = self.actor.remote()
        return actor, actor.greet.remote(str(self.folder), self.refused)

    def send(self, actor: Any, greeting: Greeting, task: list[int]) -> tuple[Any, list[int], list[int] | None]:
        """As of a `Job`."""
        return actor.work.remote(task[:6]), task[:6], task[6:] or None

    def divide(self, task: list[int]) -> list[list[int]]:
        """As of a `Job`."""
        return [[number] for number in task]

    def give_up(self, task: list[int]) -> list[int | str]:
        """As of a `Job`."""
        return [f"{task[0]} is deadly"]

    def crew(
        self, size: int = 2, hung_after: float | None = None, head: Head | None = None
    ) -> Crew[list[int], list[int | str]]:
        """One that does it."""
        import ray

        limit = None if hung_after is None else Limit(hung_after, lambda actor, task: actor.progress.remote())
        return Crew(ray, self, size, limit, head)


@contextmanager
def two_machines() -> Iterator[Machines]:
    """A cluster of two machines, to which this process is connected."""
    ray = import_ray()
    from ray.cluster_utils import Cluster

    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)  # what this process imports, workers do, too
    folder = tempfile.mkdtemp(prefix="r", dir="/tmp")  # the path of a socket has at most 100 characters
    head = {"num_cpus": 0, "object_store_memory": _MEMORY, "include_dashboard": False, "temp_dir": folder}
    machines = Machines(Cluster(initialize_head=True, head_node_args=head | {"_system_config": _QUICK}))
    try:
        connect(machines.address)
        machines.add()
        machines.add()
        yield machines
    finally:
        ray.shutdown()
        machines.cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
