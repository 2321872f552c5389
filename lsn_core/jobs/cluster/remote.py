"""One attempt of a job on a node of the cluster; Ray makes an actor of it, whose methods the relay calls."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import platform
import threading
from typing import Any

import lsn_core
from lsn_core.cluster.address import import_ray
from lsn_core.jobs.cluster.messages import FAIL, LOG, Batch, Event, Events, Part, Place
from lsn_core.jobs.cluster.mirror import Mirror
from lsn_core.jobs.cluster.scratch import NodeFiles, Scratch
from lsn_core.jobs.cluster.waiting import Awaited
from lsn_core.jobs.job import Job
from lsn_core.jobs.limits import JobLimits
from lsn_core.jobs.worker.attempt import Attempt, Stopped
from lsn_core.jobs.worker.memory import resident
from lsn_core.jobs.worker.process import as_sentence

log = logging.getLogger(__name__)


class RemoteAttempt:
    """Does a job in a scratch folder of its node, in a thread; what is to be kept is fetched by the relay.

    Methods return at once, one at a time is called, and a second call of the same kind does no harm: the relay calls
    again where an answer was lost on its way.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        """Makes room; takes the variables that decide how a job is done, as they are where it was submitted."""
        os.environ.update(environment)
        self._scratch = Scratch()
        self._stopping = threading.Event()
        self._awaited = Awaited(self._stopping.is_set)
        self._files = NodeFiles(self._scratch.folder, self._awaited)
        self._changing = threading.Lock()
        self._events: list[Event] = []
        self._batch = Batch(0, {}, (), (), 0, False)
        self._thread: threading.Thread | None = None
        self._mirror: Mirror | None = None

    def place(self) -> Place:
        """Where this is."""
        node = import_ray().get_runtime_context().get_node_id()
        return Place(node, platform.node(), lsn_core.__version__, importlib.metadata.version("torch"))

    def give(self, name: str, part: Part, job_id: str | None = None) -> None:
        """Takes a part of a file.

        Args:
            name: of a data set, or of a file in the job's folder.
            part: parts come in order.
            job_id: the job whose folder it belongs to; None for a data set.
        """
        folder = self._files.datasets if job_id is None else self._files.folder(job_id)
        folder.mkdir(exist_ok=True)
        unfinished = folder / f".{name}.part"
        if part.content is not None and (unfinished.exists() or not part.start):
            with open(unfinished, "r+b" if part.start else "wb") as file:
                file.seek(part.start)
                file.write(part.content)
            if part.last:
                os.replace(unfinished, folder / name)
        if part.last and job_id is None:
            self._awaited.settle(name)

    def begin(self, job: Job, attempt: Attempt, limits: JobLimits) -> None:
        """Begins the job, once its folder's files were given."""
        if self._thread is not None:
            return
        folder = self._files.folder(job.id)
        folder.mkdir(exist_ok=True)
        self._mirror = Mirror(folder)
        handler = _Handler(self._add)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logging.getLogger().addHandler(handler)
        logging.getLogger("lsn_core").setLevel(logging.INFO)
        self._thread = threading.Thread(target=self._run, args=(job, attempt, limits), name="attempt", daemon=True)
        self._thread.start()

    def take(self, received: int) -> Batch:
        """The batch after the one with that number; again, where the answer was lost on its way."""
        if received == self._batch.number:
            ended = self._thread is not None and not self._thread.is_alive()  # before the events: none is left out
            with self._changing:
                events, self._events = tuple(self._events), []
            files = {} if self._mirror is None else self._mirror.changes()
            memory = resident(os.getpid())
            self._batch = Batch(received + 1, files, events, self._awaited.names(), memory, ended)
        return self._batch

    def stop(self) -> None:
        """Asks the job to write its checkpoint and end."""
        self._stopping.set()

    def close(self) -> None:
        """Removes the scratch folder."""
        self._scratch.close()

    def _run(self, job: Job, attempt: Attempt, limits: JobLimits) -> None:
        try:
            from lsn_core.jobs.worker.pipeline import Pipeline

            Pipeline(attempt, Events(self._add), self._files, limits, self._stopping.is_set).run(job)
        except Stopped:
            log.info("Stopped.")
        except Exception as error:
            log.exception("The job failed.")
            self._add(Event(FAIL, (as_sentence(error),)))

    def _add(self, event: Event) -> None:
        with self._changing:
            self._events.append(event)


class _Handler(logging.Handler):
    def __init__(self, add: Any) -> None:
        super().__init__()
        self._add = add

    def emit(self, record: logging.LogRecord) -> None:
        self._add(Event(LOG, (self.format(record) + "\n",)))
