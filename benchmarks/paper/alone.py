"""One run at a time in a folder, as two would write the same files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from lsn_core.errors import UserError

LOCK = ".lock"


@contextmanager
def alone_in(out: Path) -> Iterator[None]:
    """Holds a folder, which is made; a killed process lets go of it. Raises UserError where another run has it."""
    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise UserError(
            f"Another run is at work in {out}. Wait until it ends, stop it, or give another folder by --out."
        ) from error
    try:
        yield
    finally:
        lock.release()
