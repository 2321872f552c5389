"""Locks on files that the system takes back when a process is gone: two kinds, by what child processes inherit."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_PROBES, _PAUSE = 5, 0.01


@dataclass(frozen=True)
class Lock:
    """A lock that is held.

    Attributes:
        close: lets go of it, as far as this process is concerned.
        handed_on: file descriptors that a child process inherits to hold it, too.
    """

    close: Callable[[], None]
    handed_on: tuple[int, ...] = ()


@dataclass(frozen=True)
class LockKind:
    """How locks are taken and asked about.

    Attributes:
        take: a lock on the file at a path, which is made; None where another process has it.
        held: whether any process has it; a file that is not there is held by none.
    """

    take: Callable[[Path], Lock | None]
    held: Callable[[Path], bool]


def _take_inherited(path: Path) -> Lock | None:
    import fcntl

    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return Lock(lambda: os.close(descriptor), (descriptor,))


def _held_inherited(path: Path) -> bool:
    import fcntl

    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two callers do not hinder each other
        return False
    except OSError:
        return True
    finally:
        os.close(descriptor)


def _take_own(path: Path) -> Lock | None:
    from filelock import FileLock, Timeout

    lock = FileLock(path, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        return None
    return Lock(lambda: lock.release(force=True))


def _held_own(path: Path) -> bool:
    # There are no shared locks here: whoever asks holds it for a moment, so one refusal may be of another who asks.
    for _ in range(_PROBES):
        if not path.exists():
            return False
        lock = _take_own(path)
        if lock is not None:
            lock.close()
            return False
        time.sleep(_PAUSE)
    return True


INHERITED = LockKind(_take_inherited, _held_inherited)
"""Of POSIX: held as long as any process has the descriptor open, children that inherited it included."""

OWN = LockKind(_take_own, _held_own)
"""Of any system: held as long as the process that took it lives."""
