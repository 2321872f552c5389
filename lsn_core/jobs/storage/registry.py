"""The truth about all jobs, in one SQLite file: a change is a transaction that names the states it may start from."""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import Any, TypeVar

from lsn_core.errors import UserError
from lsn_core.jobs import job as states
from lsn_core.jobs.job import ACTIVE, FINISHED, MOVES, PENDING, RESUMABLE, STATES, Job, Point
from lsn_core.jobs.limits import JobLimits
from lsn_core.jobs.storage.database import Database
from lsn_core.jobs.storage.rows import COLUMNS, INSERT, from_row, to_row
from lsn_core.jobs.storage.turns import fair_order, note_served

log = logging.getLogger(__name__)
T = TypeVar("T")


class LostClaim(Exception):
    """The job is no longer this worker's: it was taken for dead, or the job was deleted."""


class Registry(Database):
    """Jobs, their states over time and their metrics over time; any number of processes and threads may use it."""

    # -- reading ------------------------------------------------------------------------------------------------------

    def get(self, job_id: str) -> Job | None:
        """The job of that id, or None."""
        rows = self.read(f"SELECT {COLUMNS} FROM jobs WHERE id = ?", job_id)
        return from_row(rows[0]) if rows else None

    def jobs(self, owner: str | None = None, states: Collection[str] = STATES) -> list[Job]:
        """Jobs in these states, newest first; of one owner, or of all."""
        rows = self.read(f"SELECT {COLUMNS} FROM jobs ORDER BY rowid DESC")
        return [from_row(row) for row in rows if row["state"] in states and owner in (None, row["owner"])]

    def queue(self) -> list[str]:
        """Ids of the queued jobs in the order in which they will be begun, as things stand."""
        with self.lock:
            return fair_order(self.connection)

    def progress(self, job_id: str) -> list[Point]:
        """Metrics over time, by step."""
        query = "SELECT step, phase, loss, accuracy, seconds FROM progress WHERE job = ? ORDER BY step"
        return [Point(*row) for row in self.read(query, job_id)]

    def history(self, job_id: str | None = None) -> list[tuple[str, float, str]]:
        """Job, time and state of every change, in order; of one job, or of all."""
        where = "" if job_id is None else "WHERE job = ?"
        rows = self.read(f"SELECT job, at, state FROM history {where} ORDER BY number", *([job_id] if job_id else []))
        return [(row["job"], row["at"], row["state"]) for row in rows]

    def used(self, dataset: str) -> bool:
        """Whether a job has this data set."""
        return bool(self.read("SELECT 1 FROM jobs WHERE dataset = ? OR ood = ?", dataset, dataset))

    # -- the owner's side ---------------------------------------------------------------------------------------------

    def add(self, job: Job, limits: JobLimits, place: Callable[[], None]) -> None:
        """Takes a new job in, queued or failed.

        Args:
            limits: of the queue's length and of jobs per owner.
            place: puts the job's files where they belong; called while nobody else can change the registry.

        Raises:
            UserError: a limit is reached.
        """

        def insert(db: sqlite3.Connection) -> None:
            if job.state == states.QUEUED:
                self._check_queue(db, job.owner, limits)
            db.execute(INSERT, to_row(replace(job, queued=_after_all(db, job.queued))))
            place()

        self.write(insert)

    def check_queue(self, owner: str, limits: JobLimits) -> None:
        """Raises UserError where the owner has too many jobs, or the queue is full."""
        with self.lock:
            self._check_queue(self.connection, owner, limits)

    def _check_queue(self, db: sqlite3.Connection, owner: str, limits: JobLimits) -> None:
        rows = db.execute(f"SELECT owner, state FROM jobs WHERE state IN {PENDING}").fetchall()
        own = sum(row["owner"] == owner for row in rows)
        if own >= limits.per_owner:
            raise UserError(
                f"You have {own} unfinished jobs, and {limits.per_owner} are allowed. Wait for one, or stop it."
            )
        waiting = sum(row["state"] not in ACTIVE for row in rows)
        if waiting >= limits.queue:
            raise UserError(f"{waiting} jobs are waiting, as many as the queue takes. Try again later.")

    def ask_stop(self, job_id: str) -> None:
        """Stops a job that waits, and asks the worker to stop one that runs; without effect on a finished one."""

        def ask(db: sqlite3.Connection) -> None:
            if not _move(db, job_id, states.STOPPED, (states.QUEUED, states.INTERRUPTED), finished=time.time()):
                db.execute(f"UPDATE jobs SET stop_requested = 1 WHERE id = ? AND state IN {ACTIVE}", (job_id,))

        self.write(ask)

    def resume(self, job_id: str, limits: JobLimits) -> bool:
        """Puts a stopped, failed or interrupted job at the end of the queue, with its time limit granted anew.

        Returns:
            False where the job is in no such state.

        Raises:
            UserError: a limit is reached.
        """

        def requeue(db: sqlite3.Connection) -> bool:
            row = db.execute("SELECT owner, state FROM jobs WHERE id = ?", (job_id,)).fetchone()
            if row is not None and row["state"] in FINISHED:
                self._check_queue(db, row["owner"], limits)
            anew = {"queued": _after_all(db, time.time()), "finished": None, "error": None, "seconds": 0.0, "losses": 0}
            return _move(db, job_id, states.QUEUED, RESUMABLE, **anew, resumed=False)

        return self.write(requeue)

    def remove(self, job_id: str, drop: Callable[[Job], None], unless: Collection[str] = ACTIVE) -> bool:
        """Forgets a job.

        Args:
            drop: removes its files; called while nobody else can change the registry.
            unless: states in which it stays.

        Returns:
            False where it stayed or was not there.
        """

        def delete(db: sqlite3.Connection) -> bool:
            row = db.execute(f"SELECT {COLUMNS} FROM jobs WHERE id = ?", (job_id,)).fetchone()
            if row is None or row["state"] in unless:
                return False
            db.execute("DELETE FROM jobs WHERE id = ?", (job_id,))
            drop(from_row(row))
            return True

        return self.write(delete)

    def exclusively(self, work: Callable[[], T]) -> T:
        """Does something while nobody else can change the registry."""
        return self.write(lambda db: work())

    # -- the worker's side --------------------------------------------------------------------------------------------

    def claim(self, worker: str, claim: str, threads: int) -> Job | None:
        """Begins the next job in fair order, or returns None where none waits.

        Args:
            worker: its name.
            claim: a fresh number for this attempt, which must come with every report.
            threads: CPU threads for a job that has none yet.
        """

        def begin(db: sqlite3.Connection) -> str | None:
            first = next(iter(fair_order(db)), None)
            if first is not None:
                values = {"worker": worker, "claim": claim, "started": time.time(), "stop_requested": False}
                _move(db, first, states.PREPARING, (states.QUEUED,), **values)
                db.execute(
                    "UPDATE jobs SET mark = reached, threads = COALESCE(threads, ?) WHERE id = ?", (threads, first)
                )
                note_served(db, first)
            return first

        job_id = self.write(begin)
        return None if job_id is None else self.get(job_id)

    def prepared(self, job_id: str, claim: str, done: int, images: int) -> None:
        """Reports images encoded so far, and how many there are. Raises LostClaim."""
        change = "prepared = :done, images = :images, reached = MAX(reached, :done + step)"
        self.write(lambda db: _report(db, job_id, claim, change, {"done": done, "images": images}))

    def trained(self, job_id: str, claim: str, point: Point, total: int, *, first: bool) -> None:
        """Reports a training step. Raises LostClaim.

        Args:
            first: the first step of this attempt: later ones, reached before a break, are forgotten.
        """

        def report(db: sqlite3.Connection) -> None:
            values = {"step": point.step, "total": total, "phase": point.phase}
            change = "step = :step, total = :total, phase = :phase, reached = MAX(reached, prepared + :step)"
            _report(db, job_id, claim, change, values)
            if first:
                db.execute("DELETE FROM progress WHERE job = ? AND step >= ?", (job_id, point.step))
            row = (job_id, point.step, point.phase, point.loss, point.accuracy, point.seconds)
            columns = "job, step, phase, loss, accuracy, seconds"
            db.execute(f"INSERT OR REPLACE INTO progress ({columns}) VALUES (?, ?, ?, ?, ?, ?)", row)

        self.write(report)

    def worked(self, job_id: str, claim: str, seconds: float) -> None:
        """Adds to the time worked. Raises LostClaim."""
        self.write(lambda db: _report(db, job_id, claim, "seconds = seconds + :seconds", {"seconds": seconds}))

    def stop_requested(self, job_id: str) -> bool:
        """Whether its owner wants it stopped, or has deleted it."""
        rows = self.read("SELECT stop_requested FROM jobs WHERE id = ?", job_id)
        return not rows or bool(rows[0]["stop_requested"])

    def advance(self, job_id: str, claim: str, to: str) -> None:
        """Moves an active job on to training or evaluating. Raises LostClaim."""
        self._own(job_id, claim, to)

    def finish(self, job_id: str, claim: str, result: str, metrics: dict[str, Any]) -> None:
        """Marks an evaluated job as done. Raises LostClaim."""
        self._own(job_id, claim, states.DONE, result=result, metrics=json.dumps(metrics), finished=time.time())

    def fail(self, job_id: str, claim: str, sentence: str) -> None:
        """Marks an active job as failed. Raises LostClaim."""
        self._own(job_id, claim, states.FAILED, error=sentence, finished=time.time())

    def stopped(self, job_id: str, claim: str) -> None:
        """Marks an active job as stopped. Raises LostClaim."""
        self._own(job_id, claim, states.STOPPED, finished=time.time())

    def interrupt(self, job_id: str, claim: str, *, lost: bool = False, limit: int | None = None) -> None:
        """Marks an active job as interrupted, or as stopped where that was asked for. Raises LostClaim.

        Args:
            lost: its worker died, rather than gave it back in good order.
            limit: losses in a row, without moving forward, at which it fails instead.
        """

        def give_back(db: sqlite3.Connection) -> None:
            query = "SELECT reached, mark, losses, stop_requested FROM jobs WHERE id = ? AND claim = ?"
            row = db.execute(query, (job_id, claim)).fetchone()
            if row is None:
                raise LostClaim(job_id)
            losses = 0 if row["reached"] > row["mark"] else row["losses"] + lost
            if row["stop_requested"]:
                _move(db, job_id, states.STOPPED, ACTIVE, claim=None, finished=time.time(), losses=losses)
            elif lost and limit is not None and losses >= limit:
                sentence = (
                    f"Its process was killed {losses} times in a row without getting any further, most likely for want "
                    "of memory. Use fewer classes or a smaller memory_gib, then resume it."
                )
                _move(
                    db, job_id, states.FAILED, ACTIVE, claim=None, finished=time.time(), losses=losses, error=sentence
                )
            else:
                _move(db, job_id, states.INTERRUPTED, ACTIVE, claim=None, losses=losses)

        self.write(give_back)

    def requeue_interrupted(self) -> int:
        """Queues all interrupted jobs again, before the others; how many there were."""

        def requeue(db: sqlite3.Connection) -> int:
            ids = [row["id"] for row in db.execute("SELECT id FROM jobs WHERE state = 'interrupted'")]
            return sum(_move(db, job_id, states.QUEUED, (states.INTERRUPTED,), resumed=True) for job_id in ids)

        return self.write(requeue)

    # -- underneath ---------------------------------------------------------------------------------------------------

    def _own(self, job_id: str, claim: str, to: str, **values: Any) -> None:
        def move(db: sqlite3.Connection) -> None:
            if not db.execute("SELECT 1 FROM jobs WHERE id = ? AND claim = ?", (job_id, claim)).fetchone():
                raise LostClaim(job_id)
            froms = tuple(before for before, after in MOVES if after == to and before in ACTIVE)
            changes = values if to in ACTIVE else {"claim": None, **values}
            if not _move(db, job_id, to, froms, **changes):
                raise LostClaim(job_id)

        self.write(move)


def _after_all(db: sqlite3.Connection, now: float) -> float:
    """A time behind those of all jobs that wait, for the end of the queue, though the clock was set back."""
    (last,) = db.execute("SELECT MAX(queued) FROM jobs WHERE state = 'queued'").fetchone()
    return now if last is None or now > last else float(last) + 1e-3


def _move(db: sqlite3.Connection, job_id: str, to: str, froms: Iterable[str], **values: Any) -> bool:
    """Whether the job was in one of those states, and now is in this one."""
    changes = ", ".join(f"{name} = :{name}" for name in ("state", *values))
    allowed = ", ".join(f"'{state}'" for state in froms)
    query = f"UPDATE jobs SET {changes} WHERE id = :id AND state IN ({allowed})"
    return db.execute(query, {"id": job_id, "state": to, **values}).rowcount == 1


def _report(db: sqlite3.Connection, job_id: str, claim: str, change: str, values: dict[str, Any]) -> None:
    query = f"UPDATE jobs SET {change} WHERE id = :id AND claim = :claim"
    if db.execute(query, {"id": job_id, "claim": claim, **values}).rowcount != 1:
        raise LostClaim(job_id)
