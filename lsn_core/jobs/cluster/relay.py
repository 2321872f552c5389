"""The process of one attempt on the machine that has the registry: it finds room on the cluster, and passes on between.

It is told of the job once it has found room, on its standard input, and says on its standard output what it waits for.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from lsn_core.atomic import write_bytes
from lsn_core.errors import UserError
from lsn_core.jobs.cluster.messages import LOG, REPORTS, Batch, Event, Part
from lsn_core.jobs.cluster.mirror import KEPT
from lsn_core.jobs.cluster.seat import ClusterLost, NodeLost, NoSeat, ProcessLost, Seat, Wish
from lsn_core.jobs.job import Job
from lsn_core.jobs.limits import JobLimits
from lsn_core.jobs.storage.files import JobFiles
from lsn_core.jobs.storage.registry import LostClaim, Registry
from lsn_core.jobs.worker.attempt import Attempt
from lsn_core.jobs.worker.memory import too_much_memory
from lsn_core.jobs.worker.parent import end_at_once
from lsn_core.jobs.worker.process import as_sentence, refuse_at_once, when_terminated

log = logging.getLogger(__name__)

WAITING, READY, PROBLEM = "waiting", "ready", "problem"
"""What is said on standard output: a line of JSON, one of these names and a sentence."""
NODE_LOST, PROCESS_LOST, CLUSTER_LOST = 75, 76, 77
"""Exit codes, where the attempt did not come to an end."""

_PART = 16 * 2**20
_PAUSE_SECONDS = 0.15
_LOOK_SECONDS, _MISSED = 2.0, 3


class Relay:
    """One attempt, as it is seen from the machine that has the registry."""

    def __init__(self, seat: Seat, job: Job, attempt: Attempt, registry: Registry, files: JobFiles) -> None:
        """Takes what it passes on between."""
        self.seat, self.job, self.attempt, self.registry, self.files = seat, job, attempt, registry, files

    def run(self, limits: JobLimits, memory_gib: float | None, terminated: Callable[[], bool]) -> None:
        """Has the job done, from where it stands to its end, or until `terminated`; its errors are written down.

        Raises:
            NodeLost, ProcessLost, ClusterLost: the attempt is gone.
            LostClaim: the job was taken away.
        """
        folder = self.files.folder(self.job.id)
        folder.mkdir(exist_ok=True)
        for name in KEPT[:-1]:
            for part in parts(folder / name):
                self.seat.ask("give", name, part, self.job.id)
        self.seat.ask("begin", self.job, self.attempt, limits)
        number, asked = 0, False
        sending: Iterator[tuple[str, Part]] = iter(())
        pause = threading.Event()
        while True:
            if terminated() and not asked:
                self.seat.tell("stop")
                asked = True
            batch: Batch = self.seat.ask("take", number)
            number = batch.number
            self._write_down(batch)
            if batch.ended:
                self.seat.ask("close")
                return
            if memory_gib and batch.memory > memory_gib * 2**30:
                self.registry.fail(self.job.id, self.attempt.claim, too_much_memory(memory_gib))
                return
            if piece := next(sending, None):
                self.seat.ask("give", *piece)
            elif batch.needs:
                name = batch.needs[0]
                # security: a node gets this job's data sets, and no other file of this machine.
                assert name in (self.job.dataset, self.job.ood)
                sending = ((name, part) for part in parts(self.files.datasets / name))
            else:
                pause.wait(_PAUSE_SECONDS)

    def _write_down(self, batch: Batch) -> None:
        folder = self.files.folder(self.job.id)
        for name, content in batch.files.items():
            assert name in KEPT
            if content is None:
                (folder / name).unlink(missing_ok=True)
            else:
                write_bytes(folder / name, content)
        for event in batch.events:
            self._pass_on(event)

    def _pass_on(self, event: Event) -> None:
        if event.name == LOG:
            sys.stderr.write(event.arguments[0])
            return
        assert event.name in REPORTS
        report = getattr(self.registry, event.name)
        report(self.job.id, self.attempt.claim, *event.arguments, **dict(event.options))


def parts(path: Path, size: int = _PART) -> Iterator[Part]:
    """A file in parts of so many bytes; one part without content for a file that is not there."""
    try:
        file = open(path, "rb")  # noqa: SIM115
    except FileNotFoundError:
        yield Part(None, 0, True)
        return
    with file:
        start, content = 0, file.read(size)
        while following := file.read(size):
            yield Part(content, start, False)
            start, content = start + len(content), following
        yield Part(content, start, True)


@dataclass(frozen=True)
class Order:
    """What a relay is started with.

    Attributes:
        wish: what it is to ask the cluster for.
        memory_gib: a job that takes more main memory fails; None for no limit.
    """

    wish: Wish
    memory_gib: float | None

    def command(self) -> list[str]:
        """The command line that starts it."""
        values = vars(self.wish) | {"memory_gib": self.memory_gib}
        return [sys.executable, "-m", "lsn_core.jobs.cluster.relay", json.dumps(values)]

    @classmethod
    def read(cls, text: str) -> Order:
        """From the command line."""
        values = json.loads(text)
        memory_gib = values.pop("memory_gib")
        return cls(Wish(**values), memory_gib)


def main() -> int:
    """Entry point of the process."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    order = Order.read(sys.argv[1])
    told = _lines(0)
    said = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what Ray prints is no message
    try:
        seat = Seat(order.wish)
    except UserError as error:
        _say(said, PROBLEM, str(error))
        return CLUSTER_LOST
    terminated = when_terminated()  # after Ray's own
    threading.Thread(target=_end_with_cluster, args=(seat,), name="cluster", daemon=True).start()
    try:
        _say(said, WAITING, "GPU" if seat.gpu else "CPU")
        try:
            place = seat.wait(lambda: not terminated())
        except UserError as error:
            _say(said, PROBLEM, str(error))
            return CLUSTER_LOST
        _say(said, READY, place.host)
        attempt = _attempt(told, terminated)
        if attempt is None:
            return 0
        log.info("Node %s (%s), lsn-core %s, torch %s.", place.host, place.node, place.version, place.torch)
        return _do(attempt, seat, order.memory_gib, terminated)
    except NoSeat:
        return 0
    finally:
        seat.leave()


def _do(attempt: Attempt, seat: Seat, memory_gib: float | None, terminated: Callable[[], bool]) -> int:
    folder = Path(attempt.folder)
    with closing(Registry(folder)) as registry:
        try:
            job, limits, files = registry.get(attempt.job), JobLimits.read(folder), JobFiles(folder)
            if job is None:
                return 0
            refuse_at_once(job, files, limits)
            Relay(seat, job, attempt, registry, files).run(limits, memory_gib, terminated)
        except LostClaim:
            log.warning("The job was taken away.")
        except NodeLost as error:
            log.warning("The node is gone (%s).", error)
            return NODE_LOST
        except ProcessLost as error:
            log.warning("The process on the node is gone (%s).", error)
            return PROCESS_LOST
        except ClusterLost as error:
            log.warning("The cluster is gone (%s).", error)
            return CLUSTER_LOST
        except Exception as error:
            log.exception("The job failed.")
            registry.fail(attempt.job, attempt.claim, as_sentence(error))
    return 0


def _end_with_cluster(seat: Seat) -> None:
    missed = 0
    while missed < _MISSED:
        time.sleep(_LOOK_SECONDS)
        missed = missed + 1 if seat.away() else 0
    log.warning("The cluster is gone.")
    os._exit(CLUSTER_LOST)


def _attempt(told: queue.Queue[bytes], terminated: Callable[[], bool]) -> Attempt | None:
    """What the worker says is to be done: the attempt, and the file that its log goes to from now on."""
    while not terminated():
        try:
            values: dict[str, Any] = json.loads(told.get(timeout=0.1))
        except queue.Empty:
            continue
        with open(values.pop("log"), "ab") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        return Attempt(**values)
    return None


def _lines(descriptor: int) -> queue.Queue[bytes]:
    """The lines of a pipe, as they come; its end says that the worker is gone, and ends this process."""
    lines: queue.Queue[bytes] = queue.Queue()

    def read() -> None:
        rest = b""
        while part := os.read(descriptor, 65_536):  # nothing of Python's own, which must not be in use at its end
            *whole, rest = (rest + part).split(b"\n")
            for line in whole:
                lines.put(line)
        end_at_once()

    threading.Thread(target=read, name="worker", daemon=True).start()
    return lines


def _say(said: IO[str], name: str, sentence: str) -> None:
    said.write(json.dumps([name, sentence]) + "\n")
    said.flush()


if __name__ == "__main__":
    sys.exit(main())
