"""A folder on a node for as long as an attempt runs there; what killed attempts left is removed by the next one."""

from __future__ import annotations

import contextlib
import getpass
import shutil
import sys
import tempfile
import time
from pathlib import Path

from lsn_core.jobs.cluster.waiting import Awaited
from lsn_core.jobs.storage.files import JobFiles
from lsn_core.jobs.storage.system_locks import INHERITED, OWN, Lock, LockKind

_LOCK = ".lock"
_ALONE = "making"  # held while a folder is made, which has no lock for a moment


class Scratch:
    """A new folder below the system's for temporary files, known to be in use by a lock beside it."""

    def __init__(self, base: Path | None = None) -> None:
        """Makes the folder; `base` is where such folders are, by default one of this user's own."""
        self._kind: LockKind = OWN if sys.platform == "win32" else INHERITED
        base = base or Path(tempfile.gettempdir()) / f"lsn-jobs-{getpass.getuser()}"
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        while (alone := self._kind.take(base / _ALONE)) is None:
            time.sleep(0.05)
        try:
            self._sweep(base)
            self.folder = Path(tempfile.mkdtemp(dir=base))
            lock = self._kind.take(self._lock(self.folder))
            assert lock is not None, "nobody else knows of this folder"
            self._held: Lock | None = lock
        finally:
            alone.close()

    def close(self) -> None:
        """Removes it, if it is still there."""
        if self._held is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            self._held.close()
            self._lock(self.folder).unlink(missing_ok=True)
            self._held = None

    def _sweep(self, base: Path) -> None:
        for lock in base.glob(f"*{_LOCK}"):
            if not self._kind.held(lock):
                shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
                with contextlib.suppress(OSError):
                    lock.unlink()

    @staticmethod
    def _lock(folder: Path) -> Path:
        return folder.with_suffix(_LOCK)


class NodeFiles(JobFiles):
    """The files of one attempt on a node: data sets are asked for when they are needed."""

    def __init__(self, folder: Path, awaited: Awaited) -> None:
        """Takes an empty folder, and what data sets are asked of."""
        super().__init__(folder)
        self._awaited = awaited

    def dataset(self, name: str) -> Path:
        """The copy of a data set, once it has come. Raises UserError where it is gone; what `awaited` raises."""
        path = self.datasets / name
        if not path.is_file():
            self._awaited.get(name)
        return super().dataset(name)
