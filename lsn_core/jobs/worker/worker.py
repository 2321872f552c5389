"""A worker: waits for calls, runs one job at a time in a process of its own, and tidies up after those that died."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import sqlite3
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from lsn_core.jobs.job import DONE, Job
from lsn_core.jobs.limits import JobLimits
from lsn_core.jobs.storage.cleanup import recover, tidy
from lsn_core.jobs.storage.clock import SteadyClock
from lsn_core.jobs.storage.files import LOG, RESULT, JobFiles
from lsn_core.jobs.storage.locks import Slot, Slots
from lsn_core.jobs.storage.registry import LostClaim, Registry
from lsn_core.jobs.worker.attempt import Attempt
from lsn_core.jobs.worker.memory import check_watchable, resident, too_much_memory
from lsn_core.jobs.worker.queue import JobQueue

log = logging.getLogger(__name__)

GRACE_SECONDS = 1.2
"""How long a job may take to write its checkpoint before it is killed; the last checkpoint is there all the same."""

_POLL_SECONDS = 0.1
_IDLE_SECONDS, _TIDY_SECONDS = 1.0, 60.0


@dataclass(frozen=True)
class WorkerConfig:
    """How a worker works.

    Attributes:
        device: "auto", "cpu", "cuda:0", ...
        name: one worker of each name can run; None takes the device's.
        threads: CPU threads of a job; None leaves one core to others where there are several.
        memory_gib: a job that takes more main memory fails; None for no limit but the system's. Linux only.
        resume: interrupted jobs go on by themselves.
        queue_url: address of a Redis server, or None for SQLite.
        checkpoint_seconds: least time between a job's checkpoints.
    """

    device: str = "auto"
    name: str | None = None
    threads: int | None = None
    memory_gib: float | None = None
    resume: bool = True
    queue_url: str | None = None
    checkpoint_seconds: float = 10.0


class Worker:
    """Runs jobs of a data directory until told to end."""

    def __init__(self, folder: Path, config: WorkerConfig) -> None:
        check_watchable(config.memory_gib)
        self.folder, self.config = folder, config
        self.name = config.name or config.device
        self.threads = config.threads or max(1, (os.cpu_count() or 2) - 1)
        self.limits = JobLimits.read(folder)
        self.registry, self.files, self.slots = Registry(folder), JobFiles(folder), Slots(folder)
        self.queue = JobQueue(folder, config.queue_url, self.work)
        self._ending = threading.Event()
        self._at: str | None = None  # the job at hand
        self._changing = threading.Lock()
        self._slot: Slot | None = None
        self._tidied, self._clock = 0.0, SteadyClock()

    def end(self) -> None:
        """Makes `run` give back its job and return, within two seconds."""
        self._ending.set()

    def run(self) -> None:
        """Works until `end` or a signal to terminate. Raises UserError where a worker of this name runs already."""
        self._slot = slot = self.slots.take(self.name)
        try:
            self._maintain()
            consumer = self.queue.consumer()
            consumer.start()
            for name in ("SIGTERM", "SIGINT", "SIGHUP"):
                if hasattr(signal, name):  # Windows has no SIGHUP
                    signal.signal(getattr(signal, name), lambda *_: self.end())
            log.info("Worker %s is ready.", self.name)
            while True:
                try:
                    self._maintain()
                except (sqlite3.Error, OSError):
                    log.exception("The jobs could not be maintained; it will be tried again.")
                if self._ending.wait(_IDLE_SECONDS):
                    break
                consumer.check_worker_health()
            consumer.stop(graceful=True)
        finally:
            slot.close()

    def work(self) -> None:
        """Does the next job, if there is one; called by the queue."""
        if self._ending.is_set():
            return
        with self._changing:
            job = self.registry.claim(self.name, secrets.token_hex(8), self.threads)
            self._at = None if job is None else job.id
        if job is None:
            return
        log.info("Job %s begins.", job.id)
        try:
            self._attend(job)
        finally:
            self._at = None
            self._clear(job.id)

    # -- one job ------------------------------------------------------------------------------------------------------

    def _attend(self, job: Job) -> None:
        claim = job.claim or ""
        attempt = Attempt(str(self.folder), job.id, claim, self.config.device, self.config.checkpoint_seconds)
        try:
            process = self._start(job, attempt)
        except OSError as error:
            self.registry.fail(job.id, claim, f"The job could not be begun ({error.strerror}). Try again later.")
            return
        self._see_through(job, process)

    def _see_through(self, job: Job, process: subprocess.Popen[bytes]) -> None:
        """Watches an attempt until its process is gone, and writes down how it ended."""
        reason, asked = None, 0.0
        try:
            reason = self._watch(job, process)
            if reason is not None:
                asked = time.monotonic()
                process.terminate()
                process.wait(self._grace_seconds(reason))
        except subprocess.TimeoutExpired:
            log.info("Job %s did not end in %.1f s.", job.id, time.monotonic() - asked)
        finally:
            process.kill()
            process.wait()
            if process.stdin:
                process.stdin.close()
        self._conclude(job, reason, process.returncode)

    def _start(self, job: Job, attempt: Attempt) -> subprocess.Popen[bytes]:
        self.files.folder(job.id).mkdir(exist_ok=True)
        with open(self.files.folder(job.id) / LOG, "ab") as output:
            return subprocess.Popen(
                attempt.command(self.name if self._slot and self._slot.own_lock else None),
                stdin=subprocess.PIPE,  # its end tells the process that the worker is gone
                stdout=output,
                stderr=subprocess.STDOUT,
                # As long as the process lives, nobody takes the worker's place.
                pass_fds=self._slot.handed_on if self._slot else (),
                # A Ctrl-C is for the worker, which ends the job in good order.
                start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )

    def _watch(self, job: Job, process: subprocess.Popen[bytes]) -> str | None:
        """Why the job must end, or None once it has ended by itself."""
        counted = time.monotonic()
        left = self.limits.seconds - job.seconds
        while True:
            try:
                process.wait(_POLL_SECONDS)
                return None
            except subprocess.TimeoutExpired:
                pass
            now = time.monotonic()
            if now - counted >= 1.0:
                try:
                    self.registry.worked(job.id, job.claim or "", now - counted)
                except LostClaim:
                    return "over"  # it has just come to its end, or was deleted
                left -= now - counted
                counted = now
            reason = self._reason_to_end(job.id, left)
            if reason is not None:
                return reason
            if self._takes_too_much(process):
                process.kill()  # at once: it may be growing
                return "memory"

    def _grace_seconds(self, reason: str) -> float:
        """How long the process may take to end, for a reason of `_watch`."""
        return GRACE_SECONDS

    def _takes_too_much(self, process: subprocess.Popen[bytes]) -> bool:
        return bool(self.config.memory_gib) and resident(process.pid) > (self.config.memory_gib or 0) * 2**30

    def _reason_to_end(self, job_id: str, left: float) -> str | None:
        if self._ending.is_set():
            return "end"
        if self.registry.stop_requested(job_id):
            return "stop"
        return "time" if left < 0 else None

    def _conclude(self, job: Job, reason: str | None, status: int) -> None:
        now, claim = self.registry.get(job.id), job.claim or ""
        if now is None or now.claim != claim:
            return
        if reason == "stop":
            self.registry.stopped(job.id, claim)
        elif reason == "end" or (reason is None and status == 0):  # all processes of a service are told to end at once
            self.registry.interrupt(job.id, claim)
        elif reason == "time":
            self.registry.fail(
                job.id,
                claim,
                f"It worked for {self.limits.seconds:,.0f} s, the most a job may take. Resume it to go "
                "on from its last checkpoint, or choose fewer epochs.",
            )
        elif reason == "memory":
            self.registry.fail(job.id, claim, too_much_memory(self.config.memory_gib or 0))
        elif status < 0:  # killed from outside, by the system when memory runs out: worth some more tries
            log.warning("The process of job %s was killed by signal %d.", job.id, -status)
            self.registry.interrupt(job.id, claim, lost=True, limit=self.limits.crashes)
        else:
            self.registry.fail(
                job.id,
                claim,
                f"Its process ended unexpectedly with status {status}. The job's log says more; resume "
                "it to try again.",
            )

    def _clear(self, job_id: str) -> None:
        job = self.registry.get(job_id)
        if job is not None and job.state == DONE:
            self.files.clear(job_id, keep=(RESULT, LOG))

    # -- all jobs -----------------------------------------------------------------------------------------------------

    def _maintain(self) -> None:
        with self._changing:
            # What is in this worker's name, but not at hand, is its predecessor's, or could not be concluded.
            recover(self.registry, self.slots, self.limits, mine=self.name, but=self._at)
        if self.config.resume:
            self.registry.requeue_interrupted()
        self._see_to_the_waiting()
        if time.monotonic() - self._tidied > _TIDY_SECONDS or not self._tidied:
            self._tidied = time.monotonic()
            tidy(self.registry, self.files, self.limits, aged=self._clock.trusted())

    def _see_to_the_waiting(self) -> None:
        self.queue.top_up(len(self.registry.queue()))
