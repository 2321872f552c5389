"""The registry's SQLite file: its connection, its transactions, and a reserve for when the disk is full."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from lsn_core.jobs.storage.migrations import migrate, refuse_later_version

log = logging.getLogger(__name__)
T = TypeVar("T")

REGISTRY_FILE = "jobs.sqlite"
RESERVE_FILE = "reserve"
_RESERVE_BYTES = 2**20
_BUSY_SECONDS = 30.0


class Database:
    """One connection for all threads of a process; other processes have theirs."""

    def __init__(self, folder: Path) -> None:
        """Opens the file of a data directory; makes it where it is missing, and brings an old one up to date.

        Raises:
            UserError: a later version of this program wrote the file.
            sqlite3.DatabaseError: it is damaged; see `damage.set_damaged_aside`.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._reserve = folder / RESERVE_FILE
        self.lock = threading.RLock()
        self.connection = sqlite3.connect(
            folder / REGISTRY_FILE, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            self.connection.row_factory = sqlite3.Row
            refuse_later_version(self.connection, str(folder / REGISTRY_FILE))
            self.connection.execute("PRAGMA journal_mode = WAL")
            self.connection.execute("PRAGMA foreign_keys = ON")
            migrate(self.connection, str(folder / REGISTRY_FILE))
        except BaseException:
            self.connection.close()
            raise
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
                result = work(self.connection)
                self.connection.execute("COMMIT")
                return result
            except BaseException:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise


def _out_of_room(error: sqlite3.OperationalError) -> bool:
    return any(words in str(error) for words in ("disk is full", "disk I/O error", "unable to open"))
