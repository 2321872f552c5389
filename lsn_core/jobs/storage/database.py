"""The registry's SQLite file: its tables, its transactions, and a reserve for when the disk is full."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from lsn_core.jobs.job import ACTIVE, FINISHED, MOVES, STATES, Job

log = logging.getLogger(__name__)
T = TypeVar("T")

REGISTRY_FILE = "jobs.sqlite"
RESERVE_FILE = "reserve"
_RESERVE_BYTES = 2**20
_BUSY_SECONDS = 30.0
_TYPES = {"int": "INTEGER", "float": "REAL", "bool": "INTEGER", "int | None": "INTEGER", "float | None": "REAL"}
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS jobs ({
    ", ".join(
        f"{item.name} {_TYPES.get(str(item.type), 'TEXT')}{'' if 'None' in str(item.type) else ' NOT NULL'}"
        for item in fields(Job)
    )
}, PRIMARY KEY (id), CHECK (state IN {STATES}), CHECK ((state IN {ACTIVE}) = (claim IS NOT NULL)),
CHECK ((state IN {FINISHED}) = (finished IS NOT NULL)), CHECK ((state = 'done') = (result IS NOT NULL)),
CHECK ((state = 'failed') = (error IS NOT NULL)));
CREATE UNIQUE INDEX IF NOT EXISTS one_job_a_worker ON jobs (worker) WHERE claim IS NOT NULL;
CREATE TABLE IF NOT EXISTS moves (before TEXT, after TEXT, PRIMARY KEY (before, after)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS owners (owner TEXT PRIMARY KEY, served INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS progress (
    job TEXT NOT NULL REFERENCES jobs ON DELETE CASCADE, step INTEGER NOT NULL, phase TEXT NOT NULL,
    loss REAL NOT NULL, accuracy REAL NOT NULL, seconds REAL NOT NULL, PRIMARY KEY (job, step)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS history (
    number INTEGER PRIMARY KEY, job TEXT NOT NULL REFERENCES jobs ON DELETE CASCADE, at REAL NOT NULL,
    state TEXT NOT NULL);
CREATE TRIGGER IF NOT EXISTS legal_moves BEFORE UPDATE OF state ON jobs
    WHEN NOT EXISTS (SELECT 1 FROM moves WHERE before = OLD.state AND after = NEW.state)
    BEGIN SELECT RAISE(ABORT, 'illegal change of state'); END;
CREATE TRIGGER IF NOT EXISTS first_state AFTER INSERT ON jobs
    BEGIN INSERT INTO history (job, at, state) VALUES (NEW.id, NEW.created, NEW.state); END;
CREATE TRIGGER IF NOT EXISTS next_state AFTER UPDATE OF state ON jobs
    BEGIN INSERT INTO history (job, at, state)
    VALUES (NEW.id, (julianday('now') - 2440587.5) * 86400.0, NEW.state); END;
"""


class Database:
    """One connection for all threads of a process; other processes have theirs."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._reserve = folder / RESERVE_FILE
        self.lock = threading.RLock()
        self.connection = sqlite3.connect(
            folder / REGISTRY_FILE, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        self.connection.row_factory = sqlite3.Row
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA foreign_keys = ON")
        if not self.connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'next_state'").fetchone():
            moves = "".join(f"INSERT OR IGNORE INTO moves VALUES ('{a}', '{b}');" for a, b in sorted(MOVES))
            self.connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} {moves} COMMIT;")
        self.keep_reserve()

    def close(self) -> None:
        """Closes the database."""
        with self.lock:
            self.connection.close()

    def keep_reserve(self) -> None:
        """Keeps some disk space in hand, so that a job can still be marked as failed on a disk that is full."""
        if self._reserve.exists():
            return
        try:
            with open(self._reserve, "xb") as file:
                file.write(os.urandom(_RESERVE_BYTES))  # zeros might take no space
        except FileExistsError:
            return
        except OSError as error:
            log.warning("No disk space could be reserved (%s).", error)
            self._reserve.unlink(missing_ok=True)

    def read(self, query: str, *values: Any) -> list[sqlite3.Row]:
        """The rows of a query."""
        with self.lock:
            return self.connection.execute(query, values).fetchall()

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` returns, done as one transaction; on a full disk it is tried again with the reserve given up."""
        try:
            return self._transaction(work)
        except sqlite3.OperationalError as error:
            if not (_out_of_room(error) and self._reserve.exists()):
                raise
            log.warning("The disk is full (%s); the reserve is given up.", error)
            self._reserve.unlink(missing_ok=True)
            return self._transaction(work)

    def _transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self.lock:
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                found = work(self.connection)
                self.connection.execute("COMMIT")
                return found
            except BaseException:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise


def _out_of_room(error: sqlite3.OperationalError) -> bool:
    return any(words in str(error) for words in ("disk is full", "disk I/O error", "unable to open"))
