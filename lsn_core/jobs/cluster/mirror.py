"""Which files of a job's folder on a node are not yet on the machine that has the registry."""

from __future__ import annotations

import os
from pathlib import Path

from lsn_core.jobs.storage.files import FEATURES, RESULT
from lsn_core.training.checkpoint import CHECKPOINT_FILE

KEPT = (FEATURES, CHECKPOINT_FILE, RESULT)
"""What an attempt leaves behind. A checkpoint belongs to the features before it, so they go in this order."""

Stamp = tuple[int, int, int]


class Mirror:
    """Tells changes of a folder whose files are always replaced whole."""

    def __init__(self, folder: Path) -> None:
        """Takes the folder as it is for what the other side has."""
        self._folder = folder
        self._known = self._stamps()

    def changes(self) -> dict[str, bytes | None]:
        """Name -> content of each file that is new since the last call; None for one that is gone, and those first.

        New features are only ever written once the checkpoint of the old ones is gone: looked at in this order, they
        never come with a checkpoint that is not theirs.
        """
        now = self._stamps()
        changes: dict[str, bytes | None] = {name: None for name in self._known if name not in now}
        for name, stamp in now.items():
            if self._known.get(name) != stamp:
                try:
                    changes[name] = (self._folder / name).read_bytes()
                except FileNotFoundError:  # just now; it is told of next time
                    continue
        self._known = {name: stamp for name, stamp in now.items() if name in changes or name in self._known}
        return changes

    def _stamps(self) -> dict[str, Stamp]:
        found = {}
        for name in KEPT:
            try:
                status = os.stat(self._folder / name)
            except FileNotFoundError:
                continue
            found[name] = (status.st_ino, status.st_mtime_ns, status.st_size)
        return found
