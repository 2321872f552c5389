"""Training jobs that survive: queued, run by workers in processes of their own, picked up again after any kill."""

from lsn_core.jobs.client import DEFAULT_FOLDER, Jobs, owner_digest
from lsn_core.jobs.job import Job, Point
from lsn_core.jobs.limits import JobLimits
from lsn_core.jobs.worker.supervisor import Supervisor
from lsn_core.jobs.worker.time_sliced import SlicedWorker
from lsn_core.jobs.worker.worker import Worker, WorkerConfig

__all__ = [
    "DEFAULT_FOLDER",
    "Job",
    "JobLimits",
    "Jobs",
    "Point",
    "SlicedWorker",
    "Supervisor",
    "Worker",
    "WorkerConfig",
    "owner_digest",
]
