"""Tasks done by workers of a Ray cluster that may die at any time: each result comes once, in the order of the tasks.

Why this and not Ray Data: Ray Data keeps order and computes lost blocks anew, too, but it takes a worker that died for
bad luck. A photo that kills whoever opens it would be tried for ever or end the run, or take its whole block with it;
here it is found, gets an error of its own, and the others go on. Ray Data also reads files its own way, where ours says
of each photo why it cannot be read, and needs pandas. What is left to do without it is the bookkeeping below: results
are small, and the one process that asks for them holds all there is to know, so that nothing is lost with a machine.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from lsn_core.cluster.head import Head
from lsn_core.cluster.progress import Limit, Progress, Watch
from lsn_core.errors import START_AGAIN, UserError

log = logging.getLogger(__name__)

Task = TypeVar("Task")
Result = TypeVar("Result")
Gives = TypeVar("Gives", covariant=True)

AT_ONCE = 2
"""Tasks that a worker has: one to work on, and one whose photos are being decoded."""
_STARTS = 3  # of a worker that dies before it can work
_SUSPECT = 2  # workers' deaths after which a task is divided
_GUILTY = 3  # after which one that cannot be divided is given up
_HANGS = 4  # of each worker and of one more, with no result in between, after which it is none of the tasks' fault
_LOOK = 1.0  # seconds
_TOLD_AFTER, _PATIENCE = 30.0, 900.0  # seconds without any worker


@dataclass(frozen=True)
class Greeting:
    """What a worker says when it is ready.

    Attributes:
        node: Ray's name of the machine it is on.
        sees: whether it finds the data of the tasks where it is.
    """

    node: str
    sees: bool = False


class Job(Protocol[Task, Gives]):
    """What there is to do, seen from the process that has it done."""

    def start(self) -> tuple[Any, Any]:
        """A new actor, and the reference of the `Greeting` that it will give, or of the UserError why it cannot."""

    def send(self, actor: Any, greeting: Greeting, task: Task) -> tuple[Any, Task, Task | None]:
        """Has an actor do a task, or its beginning: the reference of the result, that part, and the rest if any."""

    def divide(self, task: Task) -> Sequence[Task]:
        """The smallest parts of a task, in order; itself where it has none."""

    def give_up(self, task: Task) -> Gives:
        """The result of a task that cannot be divided and that no worker survives. Raises UserError for none."""


@dataclass(eq=False)
class _Entry(Generic[Task, Result]):
    """A task in the order of results."""

    task: Task
    deaths: int = 0
    result: Result | None = None
    done: bool = False


@dataclass(eq=False)
class _Worker:
    actor: Any
    starts: int
    greeting: Greeting | None = None
    running: list[_Entry[Any, Any]] = field(default_factory=list)  # in the order in which they were given
    progress: Progress | None = None  # with the first of them

    @property
    def room(self) -> int:
        """How many more tasks it takes; a task that may have killed one before has a worker of its own."""
        alone = any(entry.deaths for entry in self.running)
        return 0 if self.greeting is None or alone else AT_ONCE - len(self.running)


class Crew(Generic[Task, Result]):
    """Workers that do the tasks of one job.

    Args:
        ray: the module, connected.
        job: what they do.
        size: how many there are to be, at least 1. One that dies is replaced as soon as the cluster has room.
        limit: how long a worker may be at a task without getting on with it, before it is ended and its tasks go the
            way of those of one that died. Time counts from when it became the first of the worker's tasks, and only as
            long as this process has nothing to do but to wait. None for as long as it takes.
        head: of the cluster, looked at while nothing comes; None for nobody's.

    Attributes:
        deaths: how many workers died at work, or were ended as they hung.
    """

    def __init__(
        self, ray: Any, job: Job[Task, Result], size: int, limit: Limit[Task] | None = None, head: Head | None = None
    ) -> None:
        self.deaths = 0
        self._ray, self._job, self._size, self._head = ray, job, size, head
        self._watch = None if limit is None else Watch(limit)
        self._questions: dict[Any, tuple[_Worker, Progress]] = {}
        self._waited = 0.0  # the clock by which workers hang
        self._hung = 0  # of them, since the last result
        self._workers: list[_Worker] = []
        self._refs: dict[Any, tuple[_Worker, _Entry[Task, Result] | None]] = {}
        self._order: deque[_Entry[Task, Result]] = deque()  # those whose results were not given yet
        self._again: deque[_Entry[Task, Result]] = deque()  # those of them that no worker has
        self._all_taken = False
        self._refusal: UserError | None = None
        self._without_since: float | None = None
        self._told = False

    def run(self, tasks: Iterable[Task]) -> Iterator[Result]:
        """Results, in the order of the tasks; a bounded number of tasks is taken ahead.

        Raises:
            UserError: no worker can be had, or what a task raised.
        """
        source = iter(tasks)
        try:
            for _ in range(self._size):
                self._hire(1)
            while True:
                self._deal(source)
                if self._order and self._order[0].done:
                    yield self._order.popleft().result  # type: ignore[misc]
                elif self._order or not self._all_taken:
                    self._wait()
                else:
                    return
        finally:
            for worker in self._workers:
                self._kill(worker)

    def _hire(self, starts: int) -> None:
        actor, greeting = self._job.start()
        worker = _Worker(actor, starts)
        self._workers.append(worker)
        self._refs[greeting] = worker, None

    def _deal(self, source: Iterator[Task]) -> None:
        """Gives tasks to all who have room, those of lost workers first."""
        most = (2 * self._size + 1) * AT_ONCE
        while free := [worker for worker in self._workers if worker.room]:
            worker = min(free, key=lambda worker: len(worker.running))
            if self._again:
                if self._again[0].deaths and worker.running:
                    return  # until one is idle
                entry = self._again.popleft()
            elif len(self._order) < most and not self._all_taken:
                task = next(source, None)
                if task is None:
                    self._all_taken = True
                    return
                entry = _Entry(task)
                self._order.append(entry)
            else:
                return
            self._give(worker, entry)

    def _give(self, worker: _Worker, entry: _Entry[Task, Result]) -> None:
        assert worker.greeting is not None
        ref, entry.task, rest = self._job.send(worker.actor, worker.greeting, entry.task)
        if rest is not None:
            later = _Entry[Task, Result](rest, entry.deaths)
            self._order.insert(self._order.index(entry) + 1, later)
            self._again.appendleft(later)
        self._refs[ref] = worker, entry
        worker.running.append(entry)

    def _wait(self) -> None:
        """Waits for one result, greeting, answer or death, for a moment."""
        began = time.monotonic()
        ready, _ = self._ray.wait([*self._refs, *self._questions], num_returns=1, timeout=_LOOK)
        self._waited += min(time.monotonic() - began, 2 * _LOOK)  # this process may have been stopped
        if self._head is not None and not ready:
            self._head.look()
        self._mind_patience()
        for ref in ready:
            if ref in self._questions:
                self._hear(ref)
            else:
                self._take(ref)
        if self._watch is not None:
            for worker in [worker for worker in self._workers if worker.running]:
                self._mind_progress(worker, self._watch)

    def _take(self, ref: Any) -> None:
        worker, entry = self._refs.pop(ref)
        try:
            value = self._ray.get(ref)
        except self._ray.exceptions.RayTaskError as error:
            cause = getattr(error, "cause", None)
            if entry is None and isinstance(cause, UserError):
                self._refuse(worker, cause)
            elif isinstance(cause, UserError):
                raise cause from error
            else:
                raise
        except self._ray.exceptions.RayError as error:
            self._lose(worker, " ".join(str(error).split()))
        else:
            if entry is None:
                worker.greeting = value
            else:
                worker.running.remove(entry)
                entry.result, entry.done = value, True
                self._hung = 0

    def _mind_progress(self, worker: _Worker, watch: Watch[Task]) -> None:
        """Asks a worker how far it is, and ends it where it hangs."""
        first, now = worker.running[0], self._waited
        progress = worker.progress
        if progress is None or progress.of is not first:
            progress = worker.progress = Progress(first, now, now)
        if now - progress.moved > watch.patience:
            self._hung += 1
            if self._hung > _HANGS * (self._size + 1):
                raise hang_all(watch.patience)
            self._lose(worker, "", watch.patience)
        elif (question := watch.ask(progress, worker.actor, first.task, now)) is not None:
            self._questions[question] = worker, progress

    def _hear(self, question: Any) -> None:
        worker, progress = self._questions.pop(question)
        with suppress(self._ray.exceptions.RayError):  # who does not answer either hangs or is dead, which is told
            steps = self._ray.get(question)
            if self._watch is not None and worker.progress is progress:
                self._watch.hear(progress, steps, self._waited)

    def _lose(self, worker: _Worker, reason: str, hung: float | None = None) -> None:
        """Has the tasks of a worker that died, or hung for so many seconds, done by others, and hires another."""
        self._refs = {ref: pair for ref, pair in self._refs.items() if pair[0] is not worker}
        self._questions = {ref: pair for ref, pair in self._questions.items() if pair[0] is not worker}
        self._kill(worker)
        if worker.greeting is None:
            if worker.starts < _STARTS and "No module named" not in reason:
                self._workers.remove(worker)
                self._hire(worker.starts + 1)
            else:
                self._refuse(worker, cannot_start(reason))
            return
        self.deaths += 1
        self._workers.remove(worker)
        if self._head is not None:
            self._head.look(now=True)
        alive = any(node["NodeID"] == worker.greeting.node and node["Alive"] for node in self._ray.nodes())
        if hung is not None:
            log.warning("A worker hung for %s and was ended; its photos are done by others.", in_words(hung))
        else:
            gone = "" if alive else ", as its machine is no longer there"
            log.warning("A worker died%s; its photos are done by others.", gone)
            log.info("%s", reason)
        for one in reversed(worker.running):
            one.deaths += alive  # a machine that goes is nobody's fault
            self._try_again(one)
        self._hire(1)

    def _try_again(self, entry: _Entry[Task, Result]) -> None:
        parts = self._job.divide(entry.task) if entry.deaths >= _SUSPECT else [entry.task]
        if len(parts) > 1:
            place = self._order.index(entry)
            self._order.remove(entry)
            for part in reversed(parts):
                later = _Entry[Task, Result](part, 1)
                self._order.insert(place, later)
                self._again.appendleft(later)
        elif entry.deaths >= _GUILTY:
            entry.result, entry.done = self._job.give_up(entry.task), True
        else:
            self._again.appendleft(entry)

    def _refuse(self, worker: _Worker, error: UserError) -> None:
        """Goes on without a worker that cannot do the job where it is."""
        self._workers.remove(worker)
        self._kill(worker)
        if self._refusal is None or str(error) != str(self._refusal):
            log.warning("A worker is left out. %s", error)
        self._refusal = error
        if not self._workers:
            raise error

    def _mind_patience(self) -> None:
        if any(worker.greeting for worker in self._workers):
            self._without_since, self._told = None, False
            return
        now = time.monotonic()
        self._without_since = self._without_since or now
        if now - self._without_since > _PATIENCE:
            raise UserError(
                f"No worker could be started on the Ray cluster in {_PATIENCE / 60:.0f} minutes. See what it has free "
                "(ray status) and who uses it, or ask for fewer workers."
            )
        if not self._told and now - self._without_since > _TOLD_AFTER:
            self._told = True
            log.warning("Waiting for the Ray cluster to have room for a worker.")

    def _kill(self, worker: _Worker) -> None:
        if self._head is not None and self._head.gone:
            return  # Ray would wait for it
        with suppress(Exception):  # it may be dead
            self._ray.kill(worker.actor)


def cannot_start(reason: str) -> UserError:
    """The error about workers that die before they can work, by what Ray says of it."""
    if "No module named 'lsn_core" in reason or "No module named 'benchmarks" in reason:
        return UserError(
            "A machine of the Ray cluster has no lsn-core. Install the same version on all of them: "
            'pip install "lsn-core[ray]"'
        )
    return UserError(f"A worker cannot be started on the Ray cluster: {reason[-300:]}")


def in_words(seconds: float) -> str:
    """A time for people."""
    return f"{seconds:.0f} seconds" if seconds < 100 else f"{seconds / 60:.0f} minutes"


def hang_all(seconds: float) -> UserError:
    """The error about workers of which one after the other hangs."""
    return UserError(
        f"Workers of the Ray cluster hang, one after the other, for {in_words(seconds)} each, and nothing is done in "
        "between. Check that they can read the images (a network folder that no longer answers?) and their GPUs. "
        f"{START_AGAIN}"
    )
