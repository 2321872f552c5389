"""Training jobs that survive: queued, run by workers in processes of their own, and picked up again after any kill."""

from __future__ import annotations

import builtins
import hashlib
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING

from lsn_core.data.labelled import load_data
from lsn_core.data.layout import Wanted
from lsn_core.data.photos import load_photos
from lsn_core.data.sources import DataError
from lsn_core.errors import UserError
from lsn_core.jobs.job import FAILED, QUEUED, RESUMABLE, TRAINING, Job, Point
from lsn_core.jobs.limits import JobLimits
from lsn_core.jobs.storage.cleanup import forget, recover
from lsn_core.jobs.storage.files import TRAINING_SPLIT, Incoming, JobFiles, calling, count_classes
from lsn_core.jobs.storage.locks import Slots
from lsn_core.jobs.storage.notes import current_hindrance
from lsn_core.jobs.storage.registry import Registry
from lsn_core.jobs.worker.queue import JobQueue

if TYPE_CHECKING:
    from lsn_core.training.config import TrainConfig

DEFAULT_FOLDER = Path.home() / ".local" / "share" / "lsn"
"""The data directory unless another is chosen."""

_STOP_SECONDS = 5.0
_LONGEST_NAME = 80


def owner_digest(token: str) -> str:
    """What the registry keeps of an owner's token: whoever reads it there cannot pass for the owner."""
    return hashlib.sha256(token.encode()).hexdigest()[:24]


class Jobs:
    """The jobs of one data directory, for their owners: to start, see, stop, resume and delete.

    Methods that take an `owner` (a token) treat the jobs of others as not there; None stands for the administrator.
    """

    def __init__(self, folder: Path, limits: JobLimits | None = None, queue_url: str | None = None) -> None:
        """Opens a data directory, which is made where it is missing.

        Args:
            limits: None reads the directory's own.
            queue_url: address of a Redis server, or None for SQLite.
        """
        self.folder = folder
        self.registry, self.files, self.slots = Registry(folder), JobFiles(folder), Slots(folder)
        self.limits = limits or JobLimits.read(folder)
        self.queue = JobQueue(folder, queue_url)

    def close(self) -> None:
        """Closes the registry and the queue."""
        self.registry.close()
        self.queue.close()

    def submit(
        self,
        data: Path,
        owner: str,
        config: TrainConfig,
        *,
        backbone: str = "embedded",
        name: str | None = None,
        ood: Path | None = None,
        ood_name: str | None = None,
        wanted: Wanted = TRAINING_SPLIT,
    ) -> Job:
        """Takes a job in: copies its data set, checks it, and puts the job into the queue.

        Args:
            data: a folder of class folders, a zip of one, or a Parquet file.
            owner: the owner's token.
            name: what to call the job; None for the data set's name.
            ood: photos of none of the classes, to measure the detector with: any folder of photos, or as `data`.
            ood_name: what to call those in reports.
            wanted: which split and columns of `data`; by default the training split where there are several.

        Returns:
            The job: queued, or failed with the reason where its data set cannot be used.

        Raises:
            UserError: a limit is reached, or the data set cannot be had.
        """
        self.registry.check_queue(owner_digest(owner), self.limits)
        self.limits.check_room(self.files.free())
        taken: list[Incoming] = []
        try:
            classes: dict[str, int] = {}
            error = None
            try:
                classes, copy = self._take(data, taken, wanted)
                self.limits.check_data(classes)
                extra = None if ood is None else self._take(ood, taken, None)[1]
            except DataError as problem:
                copy, extra, error = "", None, str(problem)
            now = time.time()
            job = Job(
                id=secrets.token_hex(6),
                owner=owner_digest(owner),
                name=(name or data.name)[:_LONGEST_NAME],
                state=FAILED if error else QUEUED,
                dataset=copy,
                classes=classes,
                ood=extra,
                ood_name=(ood_name or ood.name) if ood is not None else None,
                backbone=backbone,
                config=config.to_dict(),
                created=now,
                queued=now,
                error=error,
                finished=now if error else None,
            )
            self.registry.add(job, self.limits, lambda: None if error else self._place(taken))
        finally:
            for incoming in taken:
                incoming.path.unlink(missing_ok=True)
        if not error:
            self.queue.call()
        return job

    def _take(self, source: Path, taken: list[Incoming], wanted: Wanted | None) -> tuple[dict[str, int], str]:
        """Copies a data set, or photos of which no class is needed; how many images of each class there are."""
        incoming = self.files.take_in(source, self.limits, wanted)
        taken.append(incoming)
        with calling(incoming.path, source.name):
            if wanted is None:
                load_photos(incoming.path, self.limits.data())
                return {}, incoming.name
            images = load_data(incoming.path, self.limits.data(), guess=TRAINING_SPLIT.guess)
            return count_classes(images), incoming.name

    def _place(self, taken: list[Incoming]) -> None:
        for incoming in taken:
            self.files.place(incoming)

    # -- what there is ------------------------------------------------------------------------------------------------

    def list(self, owner: str | None = None) -> list[Job]:
        """The owner's jobs, or all, newest first."""
        self._notice()
        return self.registry.jobs(None if owner is None else owner_digest(owner))

    def get(self, job_id: str, owner: str | None = None) -> Job:
        """One job. Raises UserError where there is none of that id, or it is somebody else's."""
        self._notice()
        job = self.registry.get(job_id)
        if job is None or (owner is not None and job.owner != owner_digest(owner)):
            raise UserError(f"There is no job {job_id[:60]!r}. It may have been deleted.")
        return job

    def position(self, job_id: str) -> int | None:
        """Place in the queue, from 1; None for a job that does not wait in it."""
        order = self.registry.queue()
        return order.index(job_id) + 1 if job_id in order else None

    def progress(self, job_id: str) -> builtins.list[Point]:
        """Loss and accuracy over the steps."""
        return self.registry.progress(job_id)

    def seconds_left(self, job: Job) -> float | None:
        """About how long training will still take, see `pace`; None while that is not known."""
        if job.state != TRAINING or not job.total:
            return None
        from lsn_core.jobs.pace import Plan, seconds_left
        from lsn_core.training.config import TrainConfig

        config = TrainConfig.from_dict(job.config)
        images = sum(min(count, config.shots or count) for count in job.classes.values())
        plan = Plan.of(config, round(images * (1 - config.calibration_share)), job.total)
        return seconds_left(self.registry.progress(job.id), job.total, plan)

    def result(self, job_id: str, owner: str | None = None) -> Path:
        """The detector file of a job that is done. Raises UserError where there is none."""
        job = self.get(job_id, owner)
        if job.result is None:
            raise UserError(f"The job {job.name!r} is {job.state}: it has no detector yet.")
        return self.files.folder(job.id) / job.result

    def working(self) -> bool:
        """Whether there is a worker."""
        return self.slots.any_held()

    def hindrance(self) -> str:
        """Why jobs that wait are not begun, as a sentence; empty where nothing is in their way but other jobs."""
        if not self.working():
            return "No worker is running just now; it will begin as soon as there is one."
        if not self.queue.reachable():
            return "The server that hands out jobs cannot be reached just now; it will begin when that is back."
        return current_hindrance(self.folder, self.slots)

    # -- what can be done with them -----------------------------------------------------------------------------------

    def stop(self, job_id: str, owner: str | None = None) -> Job:
        """Stops a job, keeping its last checkpoint; returns once it has stopped, which takes up to two seconds."""
        self.registry.ask_stop(self.get(job_id, owner).id)
        deadline = time.monotonic() + _STOP_SECONDS
        while (job := self.get(job_id)).active and time.monotonic() < deadline:
            time.sleep(0.05)
        return job

    def resume(self, job_id: str, owner: str | None = None) -> Job:
        """Queues a stopped, failed or interrupted job again; it goes on from its last checkpoint.

        Raises:
            UserError: it is in another state, or a limit is reached.
        """
        job = self.get(job_id, owner)
        if not self.registry.resume(job.id, self.limits):
            raise UserError(f"The job {job.name!r} is {job.state}; only {', '.join(RESUMABLE)} jobs can be resumed.")
        self.queue.call()
        return self.get(job_id)

    def delete(self, job_id: str, owner: str | None = None) -> None:
        """Deletes a job with its files, stopping it first. Raises UserError where it cannot be stopped."""
        job = self.stop(job_id, owner)
        if not forget(self.registry, self.files, job.id):
            raise UserError(f"The job {job.name!r} does not stop, so it cannot be deleted now. Try again.")

    def _notice(self) -> None:
        """A job whose worker is gone is interrupted, whether or not there is another worker to say so."""
        recover(self.registry, self.slots, self.limits)
