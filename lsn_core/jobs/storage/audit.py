"""Whether a data directory is consistent: what must hold at every moment, also just after a kill."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from itertools import pairwise
from pathlib import Path

from lsn_core.jobs.job import ACTIVE, DONE, FINISHED, MOVES, PENDING, QUEUED, Job
from lsn_core.jobs.storage.database import REGISTRY_FILE
from lsn_core.jobs.storage.files import JobFiles
from lsn_core.jobs.storage.registry import Registry


def audit(folder: Path) -> list[str]:
    """What is wrong with the jobs in a data directory, as sentences; none where all is well."""
    with closing(sqlite3.connect(folder / REGISTRY_FILE)) as database:
        damage = [row[0] for row in database.execute("PRAGMA integrity_check") if row[0] != "ok"]
        damage += [f"A row of {row[0]} belongs to no job." for row in database.execute("PRAGMA foreign_key_check")]
    with closing(Registry(folder)) as registry:
        jobs, files = registry.exclusively(registry.jobs), JobFiles(folder)
        workers = [job.worker for job in jobs if job.active]
        if len(set(workers)) < len(workers):
            damage.append("A worker is at two jobs.")
        if sorted(registry.queue()) != sorted(job.id for job in jobs if job.state == QUEUED):
            damage.append("The queue's order leaves out a job, or has one twice.")
        return damage + [f"Job {job.id}: {problem}" for job in jobs for problem in _problems(job, registry, files)]


def _problems(job: Job, registry: Registry, files: JobFiles) -> list[str]:
    states = [state for _, _, state in registry.history(job.id)]
    points = registry.progress(job.id)
    result = files.folder(job.id) / job.result if job.result else None
    claims = {
        f"it is {job.state}, and its history ends with {states[-1:]}": states[-1:] == [job.state],
        f"its history {states} has an illegal change": all(pair in MOVES for pair in pairwise(states)),
        "whether it is claimed does not fit its state": (job.claim is not None) == (job.state in ACTIVE),
        "whether it has ended does not fit its state": (job.finished is not None) == (job.state in FINISHED),
        "whether it has a result does not fit its state": (result is not None) == (job.state == DONE),
        "its result is missing": result is None or result.is_file(),
        "its data set is missing": job.state not in PENDING or (files.datasets / job.dataset).is_file(),
        f"it has done {job.step} of {job.total} steps": 0 <= job.step <= job.total or job.total == 0,
        "its metrics reach beyond its last step": all(point.step <= job.step for point in points),
    }
    return [problem for problem, fine in claims.items() if not fine]
