"""The numbered steps by which jobs.sqlite comes to have the tables that this version reads and writes."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from lsn_core.errors import UserError


class Migration(NamedTuple):
    """One step from a version of the tables to the next.

    Attributes:
        number: the version that the tables then have, which SQLite keeps as `user_version`.
        description: what it changes.
        statements: its SQL, one statement each: together with the number they are one transaction.
    """

    number: int
    description: str
    statements: tuple[str, ...]


_JOBS = """
CREATE TABLE jobs (
    id TEXT PRIMARY KEY NOT NULL,
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    dataset TEXT NOT NULL,
    classes TEXT NOT NULL,
    ood TEXT,
    ood_name TEXT,
    backbone TEXT NOT NULL,
    config TEXT NOT NULL,
    created REAL NOT NULL,
    queued REAL NOT NULL,
    threads INTEGER,
    images INTEGER NOT NULL,
    prepared INTEGER NOT NULL,
    step INTEGER NOT NULL,
    total INTEGER NOT NULL,
    phase TEXT,
    metrics TEXT NOT NULL,
    result TEXT,
    error TEXT,
    started REAL,
    finished REAL,
    seconds REAL NOT NULL,
    worker TEXT,
    claim TEXT,
    stop_requested INTEGER NOT NULL,
    resumed INTEGER NOT NULL,
    reached INTEGER NOT NULL,
    mark INTEGER NOT NULL,
    losses INTEGER NOT NULL,
    CHECK (state IN
        ('queued', 'preparing', 'training', 'evaluating', 'done', 'stopped', 'failed', 'interrupted')),
    CHECK ((state IN ('preparing', 'training', 'evaluating')) = (claim IS NOT NULL)),
    CHECK ((state IN ('done', 'stopped', 'failed')) = (finished IS NOT NULL)),
    CHECK ((state = 'done') = (result IS NOT NULL)),
    CHECK ((state = 'failed') = (error IS NOT NULL))
)
"""
_ONE_JOB_A_WORKER = "CREATE UNIQUE INDEX one_job_a_worker ON jobs (worker) WHERE claim IS NOT NULL"
_MOVES = "CREATE TABLE moves (before TEXT, after TEXT, PRIMARY KEY (before, after)) WITHOUT ROWID"
_LEGAL_MOVES = """
INSERT INTO moves (before, after) VALUES
    ('queued', 'preparing'),
    ('queued', 'stopped'),
    ('preparing', 'training'),
    ('preparing', 'stopped'),
    ('preparing', 'failed'),
    ('preparing', 'interrupted'),
    ('training', 'evaluating'),
    ('training', 'stopped'),
    ('training', 'failed'),
    ('training', 'interrupted'),
    ('evaluating', 'done'),
    ('evaluating', 'stopped'),
    ('evaluating', 'failed'),
    ('evaluating', 'interrupted'),
    ('interrupted', 'queued'),
    ('interrupted', 'stopped'),
    ('interrupted', 'failed'),
    ('stopped', 'queued'),
    ('failed', 'queued')
"""
_OWNERS = "CREATE TABLE owners (owner TEXT PRIMARY KEY, served INTEGER NOT NULL) WITHOUT ROWID"
_PROGRESS = """
CREATE TABLE progress (
    job TEXT NOT NULL REFERENCES jobs ON DELETE CASCADE,
    step INTEGER NOT NULL,
    phase TEXT NOT NULL,
    loss REAL NOT NULL,
    accuracy REAL NOT NULL,
    seconds REAL NOT NULL,
    PRIMARY KEY (job, step)
) WITHOUT ROWID
"""
_HISTORY = """
CREATE TABLE history (
    number INTEGER PRIMARY KEY,
    job TEXT NOT NULL REFERENCES jobs ON DELETE CASCADE,
    at REAL NOT NULL,
    state TEXT NOT NULL
)
"""
_REFUSE_ILLEGAL_MOVES = """
CREATE TRIGGER legal_moves BEFORE UPDATE OF state ON jobs
WHEN NOT EXISTS (SELECT 1 FROM moves WHERE before = OLD.state AND after = NEW.state)
BEGIN
    SELECT RAISE(ABORT, 'illegal change of state');
END
"""
_RECORD_FIRST_STATE = """
CREATE TRIGGER first_state AFTER INSERT ON jobs
BEGIN
    INSERT INTO history (job, at, state) VALUES (NEW.id, NEW.created, NEW.state);
END
"""
_RECORD_NEXT_STATE = """
CREATE TRIGGER next_state AFTER UPDATE OF state ON jobs
BEGIN
    INSERT INTO history (job, at, state) VALUES (NEW.id, (julianday('now') - 2440587.5) * 86400.0, NEW.state);
END
"""

# A step that was released is never changed: files have gone through it. What is new is a step of its own at the end.
MIGRATIONS = (
    Migration(
        1,
        "the tables of version 0.1",
        (
            _JOBS,
            _ONE_JOB_A_WORKER,
            _MOVES,
            _LEGAL_MOVES,
            _OWNERS,
            _PROGRESS,
            _HISTORY,
            _REFUSE_ILLEGAL_MOVES,
            _RECORD_FIRST_STATE,
            _RECORD_NEXT_STATE,
        ),
    ),
)


def migrate(connection: sqlite3.Connection, name: str) -> None:
    """Takes all steps that a file has not gone through; several processes may do so at once.

    Each step is one transaction: a process that is killed in the middle leaves the version before it.

    Args:
        connection: to the file, with `isolation_level=None`.
        name: what to call the file in errors.

    Raises:
        UserError: a later version of this program wrote the file.
    """
    while _next(connection, name) is not None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            step = _next(connection, name)  # asked again: while this process waited, another may have taken the step
            if step is not None:
                _take(connection, step)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def refuse_later_version(connection: sqlite3.Connection, name: str) -> None:
    """Raises UserError where a later version of this program wrote the file; nothing in it is changed."""
    _next(connection, name)


def _next(connection: sqlite3.Connection, name: str) -> Migration | None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > MIGRATIONS[-1].number:
        raise UserError(
            f"{name} was written by a later version of this program: its tables have version {version}, and this "
            f"program knows them up to {MIGRATIONS[-1].number}. Update the program, or use another data directory."
        )
    return next((step for step in MIGRATIONS if step.number > version), None)


def _take(connection: sqlite3.Connection, step: Migration) -> None:
    if not (step.number == 1 and _has_tables(connection)):
        for statement in step.statements:
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {step.number}")


def _has_tables(connection: sqlite3.Connection) -> bool:
    """Version 0.1 of this program made the tables of step 1 without writing a version down."""
    return connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'next_state'").fetchone() is not None
