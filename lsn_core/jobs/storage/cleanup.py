"""Tidying: jobs whose worker is gone, old jobs, and files that are nobody's."""

from __future__ import annotations

import logging
import time

from lsn_core.jobs.job import ACTIVE, DONE, FINISHED, PENDING, Job
from lsn_core.jobs.limits import JobLimits
from lsn_core.jobs.storage.files import LOG, RESULT, JobFiles
from lsn_core.jobs.storage.locks import Slots
from lsn_core.jobs.storage.registry import LostClaim, Registry

log = logging.getLogger(__name__)


def recover(
    registry: Registry, slots: Slots, limits: JobLimits, mine: str | None = None, but: str | None = None
) -> None:
    """Marks the jobs of workers that are gone as interrupted.

    Args:
        mine: the name of the worker that asks: nobody is at the jobs in its name,
        but: except this one.
    """
    for job in registry.jobs(states=ACTIVE):
        assert job.worker is not None and job.claim is not None
        if (job.worker == mine and job.id != but) or not slots.held(job.worker):
            try:
                registry.interrupt(job.id, job.claim, lost=True, limit=limits.losses)
                log.warning("Job %s was left behind by worker %s.", job.id, job.worker)
            except LostClaim:
                log.debug("job %s ended just now", job.id)


def tidy(registry: Registry, files: JobFiles, limits: JobLimits, *, aged: bool = True) -> None:
    """Deletes finished jobs that are too old, the oldest above the disk space for jobs, and files that are nobody's.

    Args:
        aged: whether anything is deleted for its age; not where the clock cannot be trusted.
    """
    registry.keep_reserve()
    size = files.size()
    for job in sorted(registry.jobs(states=FINISHED), key=lambda job: job.finished or 0.0):
        old = aged and time.time() - (job.finished or 0.0) > limits.kept_days * 86_400
        if old or size > limits.kept_bytes:
            log.info("Job %s is deleted: %s.", job.id, "it is old" if old else "the disk space for jobs is used up")
            forget(registry, files, job.id)
            size = files.size()
        elif job.state == DONE:
            files.clear(job.id, keep=(RESULT, LOG))
    if size > limits.kept_bytes and not registry.jobs(states=PENDING):
        files.clear_cache()

    def drop_strays() -> None:
        jobs = registry.jobs()
        for path in files.strays(
            {job.id for job in jobs}, {name or "" for job in jobs for name in (job.dataset, job.ood)}, aged=aged
        ):
            files.drop(path)

    registry.exclusively(drop_strays)


def forget(registry: Registry, files: JobFiles, job_id: str) -> bool:
    """Deletes a job that nobody is at, with its files; a data set goes with the last job that has it."""

    def drop(job: Job) -> None:
        files.clear(job.id)
        for name in (job.dataset, job.ood):
            if name is not None and not registry.used(name):
                files.drop(files.datasets / name)

    return registry.remove(job_id, drop)
