"""A worker that has its jobs done on a Ray cluster, as many at once as find room there."""

from __future__ import annotations

import json
import logging
import queue
import secrets
import signal
import sqlite3
import subprocess
import threading
import time
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from lsn_core.jobs.cluster.address import MOST_JOBS
from lsn_core.jobs.cluster.relay import CLUSTER_LOST, NODE_LOST, PROBLEM, PROCESS_LOST, READY, WAITING, Order
from lsn_core.jobs.cluster.seat import Wish
from lsn_core.jobs.job import Job
from lsn_core.jobs.storage.files import LOG
from lsn_core.jobs.storage.locks import PART, Slot
from lsn_core.jobs.storage.notes import note_hindrance
from lsn_core.jobs.worker.attempt import Attempt
from lsn_core.jobs.worker.worker import Worker, WorkerConfig

log = logging.getLogger(__name__)

NAME = "cluster"
_LOOKING = 2  # that wait for room at once: others would only wait behind them
_TURN_SECONDS, _POLL_SECONDS = 0.3, 0.1
_FIRST_PAUSE, _LONGEST_PAUSE = 2.0, 30.0
_GRACE_SECONDS = 2.5  # until the last checkpoint has come
_LEAVE_SECONDS = 10.0  # until the cluster knows that there is room again
_END_SECONDS = 1.0
_CONNECTING_SECONDS = 90.0

AWAY = "The cluster that does the jobs cannot be used just now; it will begin when that is back."
FULL = "No {} of the cluster is free just now; it will begin as soon as one is."


@dataclass(frozen=True)
class ClusterConfig:
    """Where jobs are done.

    Attributes:
        address: auto, HOST:PORT or ray://HOST:PORT.
        jobs: most at once, up to `MOST_JOBS`.
    """

    address: str
    jobs: int = MOST_JOBS


class ClusterWorker(Worker):
    """Has jobs of a data directory done on a cluster until told to end.

    A job is claimed once there is room for it, so that turns are those of the registry at that moment, and what waits
    for the cluster waits in the queue. Each job at hand has a place, with a name and a lock of its own.
    """

    def __init__(self, folder: Path, config: WorkerConfig, cluster: ClusterConfig) -> None:
        """Describes the worker; `run` does the work. One thread a job unless `config.threads` says more."""
        named = replace(config, name=config.name or NAME, threads=config.threads or 1, memory_gib=None)
        super().__init__(folder, named)
        wish = Wish(cluster.address, self.threads, config.device)
        self._order, self._most = Order(wish, config.memory_gib), cluster.jobs
        self._state = threading.Lock()
        self._places: dict[int, threading.Thread] = {}
        self._looking: set[int] = set()
        self._failures, self._not_before = 0, 0.0
        self._noted: str | None = None

    def run(self) -> None:
        """Works until `end`, in any thread. Raises UserError where a worker of this name runs already."""
        self._slot = slot = self.slots.take(self.name)
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGTERM", "SIGINT", "SIGHUP"):
                if hasattr(signal, name):
                    signal.signal(getattr(signal, name), lambda *_: self.end())
        try:
            log.info("Worker %s is ready; jobs are done on the cluster %s.", self.name, self._order.wish.address)
            self._note("")
            while not self._ending.is_set():
                try:
                    self._maintain()
                except (sqlite3.Error, OSError):
                    log.exception("The jobs could not be maintained; it will be tried again.")
                self._ending.wait(_TURN_SECONDS)
            for thread in list(self._places.values()):
                thread.join()
            self._note("")
        finally:
            slot.close()

    def work(self) -> None:
        """Looks for room on the cluster, if a job waits that nobody looks for room for."""
        with self._state:
            busy = time.monotonic() < self._not_before or self._ending.is_set()
            enough = len(self._looking) >= min(_LOOKING, len(self.registry.queue()))
            if busy or enough or len(self._places) >= self._most:
                return
            number = next(i for i in range(1, self._most + 1) if i not in self._places)
            thread = threading.Thread(target=self._fill, args=(number,), name=f"place {number}")
            self._places[number] = thread
            self._looking.add(number)
            thread.start()

    def _see_to_the_waiting(self) -> None:
        while self.queue.answer():  # it may be another's call: whether there is something to do, the registry says
            pass
        self.work()

    # -- one place ----------------------------------------------------------------------------------------------------

    def _fill(self, number: int) -> None:
        try:
            with closing(self.slots.take(f"{self.name}{PART}{number}")) as slot:
                self._use(number, slot)
        except Exception:
            log.exception("Place %d could not be used.", number)
            self._later()
        finally:
            with self._state:
                self._looking.discard(number)
                del self._places[number]

    def _use(self, number: int, slot: Slot) -> None:
        with subprocess.Popen(
            self._order.command(),
            stdin=subprocess.PIPE,  # its end tells the process that the worker is gone
            stdout=subprocess.PIPE,
            pass_fds=slot.handed_on,
            start_new_session=True,
        ) as process:
            try:
                if not self._found_room(number, process):
                    return
                job = self.registry.claim(f"{self.name}{PART}{number}", secrets.token_hex(8), self.threads)
                with self._state:
                    self._looking.discard(number)
                if job is not None:
                    self._attend_there(job, process)
            finally:
                self._part_with(process)

    def _found_room(self, number: int, process: subprocess.Popen[bytes]) -> bool:
        said, since, word = _messages(process), time.monotonic(), ""
        while not self._ending.is_set() and self._wanted(number):
            try:
                message = said.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                if not word and time.monotonic() - since > _CONNECTING_SECONDS:
                    message = None
                elif word and time.monotonic() - since > 1.0:
                    self._note("" if self._at_work() else FULL.format(word))
                    continue
                else:
                    continue
            if message is None or message[0] == PROBLEM:
                log.warning("%s", "The cluster cannot be reached." if message is None else message[1])
                self._note(AWAY)
                self._later()
                return False
            if message[0] == WAITING:
                word, since = message[1], time.monotonic()
            elif message[0] == READY:
                self._failures = 0
                self._note("")
                return True
        return False

    def _wanted(self, number: int) -> bool:
        """Whether there are as many jobs that wait as look for room before this place, and one more."""
        with self._state:
            return sum(other < number for other in self._looking) < len(self.registry.queue())

    def _at_work(self) -> bool:
        return len(self._places) > len(self._looking)

    def _later(self) -> None:
        with self._state:
            pause = min(_FIRST_PAUSE * 2**self._failures, _LONGEST_PAUSE)
            self._failures, self._not_before = self._failures + 1, time.monotonic() + pause

    def _attend_there(self, job: Job, process: subprocess.Popen[bytes]) -> None:
        log.info("Job %s begins.", job.id)
        folder = self.files.folder(job.id)
        folder.mkdir(exist_ok=True)
        claim, seconds = job.claim or "", self.config.checkpoint_seconds
        attempt = Attempt(str(self.folder), job.id, claim, self.config.device, seconds)
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(vars(attempt) | {"log": str(folder / LOG)}).encode() + b"\n")
            process.stdin.flush()
        except OSError:
            log.warning("The process for job %s has just ended.", job.id)
        self._see_through(job, process)
        self._clear(job.id)

    def _part_with(self, process: subprocess.Popen[bytes]) -> None:
        """Ends a process that is still there in good order, so that its room is free for others at once."""
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()

    def _grace_seconds(self, reason: str) -> float:
        return _LEAVE_SECONDS if reason == "over" else _GRACE_SECONDS

    def _conclude(self, job: Job, reason: str | None, status: int) -> None:
        lost = {NODE_LOST: self.limits.losses, PROCESS_LOST: self.limits.crashes, CLUSTER_LOST: None}
        now = self.registry.get(job.id)
        if reason is not None or status <= 0 or now is None or now.claim != job.claim:
            super()._conclude(job, reason, status)
            return
        # Whatever ended the process on this machine, which only passes on, is not the job's doing: Ray ends it where a
        # cluster is gone for long.
        log.warning("Job %s was cut short (%d) and goes on.", job.id, status)
        limit = lost.get(status, self.limits.losses)
        self.registry.interrupt(job.id, job.claim or "", lost=limit is not None, limit=limit)
        if status not in (NODE_LOST, PROCESS_LOST):
            self._later()

    def _note(self, sentence: str) -> None:
        if sentence != self._noted:
            try:
                note_hindrance(self.folder, self.name, sentence)
                self._noted = sentence
            except OSError:
                log.warning("What jobs wait for could not be noted.", exc_info=True)


def _messages(process: subprocess.Popen[bytes]) -> queue.Queue[tuple[str, str] | None]:
    """What a relay says, line by line; None once it says no more."""
    said: queue.Queue[tuple[str, str] | None] = queue.Queue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            name, sentence = json.loads(line)
            said.put((name, sentence))
        said.put(None)

    threading.Thread(target=read, name="relay", daemon=True).start()
    return said
