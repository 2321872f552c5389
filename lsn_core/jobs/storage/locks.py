"""Who is alive: a worker holds a lock that the system takes back whenever it and its job's process are gone."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from lsn_core.errors import UserError
from lsn_core.jobs.storage.system_locks import INHERITED, OWN, Lock, LockKind

PART = "@"
"""Between the name of a worker that does several jobs at once and the number of one of its places."""
_OF_JOB = ".job-lock"


class Slot:
    """A worker's place, for as long as this is not closed and this process lives, or one that works for it does.

    Attributes:
        handed_on: file descriptors that a process which works for the worker must inherit to hold the place, too.
        own_lock: whether such a process takes a lock of its own instead, by `Slots.join`.
    """

    def __init__(self, locks: ExitStack, handed_on: tuple[int, ...], own_lock: bool) -> None:
        self._locks, self.handed_on, self.own_lock = locks, handed_on, own_lock

    def close(self) -> None:
        """Gives the place back; a process that holds it, too, goes on holding it."""
        self._locks.close()


class Slots:
    """One lock file for each worker's name.

    Where the system hands a lock on to child processes (POSIX), a job's process inherits its worker's. On Windows,
    where none is inherited, it takes a second one, and a place is free when both are.
    """

    def __init__(self, folder: Path, kind: LockKind | None = None) -> None:
        """Opens the places of a data directory; `kind` is the system's own by default."""
        self._folder = folder / "workers"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._kind = kind or (OWN if sys.platform == "win32" else INHERITED)

    def take(self, name: str, patience: float = 10.0) -> Slot:
        """Takes the slot of that name.

        Args:
            patience: seconds to wait for a predecessor that may just be ending.

        Raises:
            UserError: another worker of that name is running, or it is no name.
        """
        path = self._path(name)

        def both() -> Lock | None:
            lock = self._kind.take(path)
            if lock is not None and self._kind.held(self._of_job(path)):
                lock.close()
                return None
            return lock

        lock = _within(patience, both)
        if lock is None:
            raise UserError(
                f"A worker called {name!r} is running already, and one is enough for a device. Stop it first, "
                "or give this one another --name."
            )
        locks = ExitStack()
        locks.callback(lock.close)
        return Slot(locks, lock.handed_on, self._kind is OWN)

    def join(self, name: str, patience: float = 5.0) -> Slot:
        """Holds the place of a worker together with it, in a process that works for it and has inherited no lock.

        Raises:
            UserError: another process does so already.
        """
        lock = _within(patience, lambda: self._kind.take(self._of_job(self._path(name))))
        if lock is None:
            raise UserError(f"A process that works for the worker {name!r} is running already.")
        locks = ExitStack()
        locks.callback(lock.close)
        return Slot(locks, lock.handed_on, self._kind is OWN)

    def held(self, name: str) -> bool:
        """Whether a worker of that name, or the process of its job, is alive."""
        return self._held(self._path(name))

    def workers(self) -> list[str]:
        """Names of the workers that are alive, without the parts of one that does several jobs at once."""
        names = [path.stem for path in sorted(self._folder.glob("*.lock")) if self._held(path)]
        return [name for name in names if PART not in name]

    def any_held(self) -> bool:
        """Whether any worker is alive."""
        return any(self._held(path) for path in self._folder.glob("*.lock"))

    def _held(self, path: Path) -> bool:
        return self._kind.held(path) or self._kind.held(self._of_job(path))

    @staticmethod
    def _of_job(path: Path) -> Path:
        return path.with_suffix(_OF_JOB)

    def _path(self, name: str) -> Path:
        if not re.fullmatch(rf"[\w:.-]{{1,64}}({PART}\d{{1,3}})?", name):
            raise UserError(f"{name!r} is no name for a worker. Use letters, digits, dots and dashes.")
        if sys.platform == "win32":
            name = name.replace(":", "+")  # cuda:0 is no file there
        return self._folder / f"{name}.lock"


def _within(patience: float, attempt: Callable[[], Lock | None]) -> Lock | None:
    deadline = time.monotonic() + patience
    while (lock := attempt()) is None and time.monotonic() <= deadline:
        time.sleep(0.05)
    return lock
