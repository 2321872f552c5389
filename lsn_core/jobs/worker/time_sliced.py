"""A worker for accelerators that a program gets for one call at a time: it does jobs slice by slice."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from lsn_core.jobs.job import Job
from lsn_core.jobs.storage.registry import LostClaim
from lsn_core.jobs.worker.attempt import Attempt
from lsn_core.jobs.worker.process import run_attempt
from lsn_core.jobs.worker.worker import Worker, WorkerConfig

log = logging.getLogger(__name__)

OnAccelerator = Callable[[Callable[[Attempt, float], None], Attempt, float], None]
"""Calls the function with the attempt and the seconds, in this process or another, while the accelerator is there."""

SLICE_SECONDS = 40.0
_PAUSE_SECONDS, _IDLE_SECONDS = 15.0, 1.0


class SlicedWorker(Worker):
    """Runs jobs of a data directory until told to end, each in calls of about `slice_seconds`.

    Nothing passes from one slice to the next but the job's record and its checkpoint, so that each may run in another
    process; the result is the same, to the bit on a CPU, as without a break.
    """

    def __init__(
        self,
        folder: Path,
        config: WorkerConfig,
        on_accelerator: OnAccelerator,
        slice_seconds: float = SLICE_SECONDS,
        pause_seconds: float = _PAUSE_SECONDS,
    ) -> None:
        """Describes the worker; `run` does the work.

        Args:
            on_accelerator: calls a function where the accelerator is; what it raises means that there was none.
            slice_seconds: length of a slice; loading the model comes on top.
            pause_seconds: how long to wait before the next try when there was no accelerator, times the tries so far.
        """
        super().__init__(folder, config)
        self._on_accelerator, self._slice_seconds, self._pause_seconds = on_accelerator, slice_seconds, pause_seconds

    def run(self) -> None:
        """Works until `end`, in any thread. Raises UserError where a worker of this name runs already."""
        self._slot = slot = self.slots.take(self.name)
        try:
            log.info("Worker %s is ready; it works in slices of %.0f s.", self.name, self._slice_seconds)
            while not self._ending.is_set():
                try:
                    self._maintain()
                except (sqlite3.Error, OSError):
                    log.exception("The jobs could not be maintained; it will be tried again.")
                if not self.queue.answer():
                    self._ending.wait(_IDLE_SECONDS)
        finally:
            slot.close()

    def _attend(self, job: Job) -> None:
        claim = job.claim or ""
        attempt = Attempt(str(self.folder), job.id, claim, self.config.device, self.config.checkpoint_seconds)
        self.files.folder(job.id).mkdir(exist_ok=True)
        left, failures = self.limits.seconds - job.seconds, 0
        try:
            while True:
                reason = self._reason_to_end(job.id, left)
                if reason is not None:
                    self._conclude(job, reason, 0)
                    return
                begun = time.monotonic()
                try:
                    self._on_accelerator(run_attempt, attempt, self._slice_seconds)
                    failures = 0
                except Exception as error:  # of whoever gives the accelerator
                    failures += 1
                    log.warning("Job %s: no accelerator, try %d: %s", job.id, failures, error)
                    if failures >= self.limits.crashes:
                        self.registry.fail(job.id, claim, _no_accelerator(error))
                        return
                    self._ending.wait(failures * self._pause_seconds)
                seconds = time.monotonic() - begun
                self.registry.worked(job.id, claim, seconds)
                left -= seconds
        except LostClaim:
            log.info("Job %s is over.", job.id)  # it came to its end in the last slice, or was taken away


def _no_accelerator(error: Exception) -> str:
    return f"No accelerator could be had ({str(error).rstrip('.')}). Resume it later to go on from its last checkpoint."
