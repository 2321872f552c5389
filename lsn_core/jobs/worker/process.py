"""One attempt of a job, as far as it goes without torch: what can be refused at once is."""

from __future__ import annotations

import errno
import json
import logging
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from lsn_core.errors import UserError
from lsn_core.jobs.job import Job
from lsn_core.jobs.limits import JobLimits
from lsn_core.jobs.storage.files import FEATURES, JobFiles
from lsn_core.jobs.storage.locks import Slots
from lsn_core.jobs.storage.registry import LostClaim, Registry
from lsn_core.jobs.worker.attempt import Attempt, Stopped
from lsn_core.jobs.worker.parent import end_at_once, when_parent_ends

log = logging.getLogger(__name__)

_ASK_SECONDS = 0.5


def run_attempt(attempt: Attempt, seconds: float | None = None) -> None:
    """Works on a job; what goes wrong is written down as its error.

    Args:
        seconds: stop after so many, at a step from which the next attempt with the same claim goes on, or as soon as
            the job's owner wants it stopped; None works until the job is done or the process is asked to terminate.
    """
    folder = Path(attempt.folder)
    with closing(Registry(folder)) as registry:
        _run(attempt, registry, JobFiles(folder), seconds)


def _run(attempt: Attempt, registry: Registry, files: JobFiles, seconds: float | None) -> None:
    try:
        job, limits = registry.get(attempt.job), JobLimits.read(files.root)
        if job is None:
            return
        refuse_at_once(job, files, limits)
        from lsn_core.jobs.worker.pipeline import Pipeline  # torch takes seconds to load

        stop = when_terminated() if seconds is None else _when_over(seconds, registry, job.id)
        Pipeline(attempt, registry, files, limits, stop).run(job)
    except Stopped:
        log.info("Stopped.")  # the worker knows why, and writes it down
    except LostClaim:
        log.warning("The job was taken away.")
    except Exception as error:
        log.exception("The job failed.")
        registry.fail(attempt.job, attempt.claim, as_sentence(error))


def refuse_at_once(job: Job, files: JobFiles, limits: JobLimits) -> None:
    """Raises UserError for what can be seen to be in the job's way without torch."""
    limits.check_room(files.free())
    if not (files.folder(job.id) / FEATURES).is_file():
        files.open(job.dataset, job.name, limits)


def when_terminated() -> Callable[[], bool]:
    """Whether this process has been asked to end, from now on."""
    terminated = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: terminated.set())
    return terminated.is_set


def _when_over(seconds: float, registry: Registry, job_id: str) -> Callable[[], bool]:
    end, asked = None, 0.0

    def over() -> bool:
        nonlocal end, asked
        now = time.monotonic()
        if end is None:  # time counts from the first step: however long the model takes to load, there is a next one
            end = now + seconds
            return False
        if now - asked < _ASK_SECONDS:
            return now >= end
        asked = now
        return now >= end or registry.stop_requested(job_id)

    return over


def as_sentence(error: Exception) -> str:
    """Why a job failed, as its owner is told."""
    if isinstance(error, UserError):
        return str(error)
    full = isinstance(error, sqlite3.OperationalError) and "full" in str(error)
    if full or (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)):
        return "The disk is full. Delete old jobs or make room, then resume the job."
    if isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__ or "allocate memory" in str(error):
        return "Memory ran out. Use fewer classes or a smaller memory_gib in the settings, then start the job again."
    return f"Something unexpected went wrong ({type(error).__name__}: {error}). The job's log says more."


def main() -> None:
    """Entry point of the process."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    when_parent_ends(end_at_once)
    try:
        Path("/proc/self/oom_score_adj").write_text("800")  # if memory runs out, it had better be this process
    except OSError:
        log.debug("the system does not let a process offer itself")
    attempt = Attempt(**json.loads(sys.argv[1]))
    # The lock is held until the process ends.
    slot = Slots(Path(attempt.folder)).join(sys.argv[2]) if len(sys.argv) > 2 else None
    run_attempt(attempt)
    if slot is not None:
        slot.close()


if __name__ == "__main__":
    main()
