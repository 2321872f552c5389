"""Who is alive: a worker holds a lock that the system takes back whenever it and its job's process are gone."""

from __future__ import annotations

import fcntl
import os
import re
import time
from pathlib import Path

from lsn_core.errors import UserError


class Slots:
    """One lock file for each worker's name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "workers"
        self._folder.mkdir(parents=True, exist_ok=True)

    def take(self, name: str, patience: float = 10.0) -> int:
        """Takes the slot of that name, and holds it as long as this process or one that inherits it lives.

        Args:
            patience: seconds to wait for a predecessor that may just be ending.

        Returns:
            A file descriptor, to be passed on to the processes that work for this worker.

        Raises:
            UserError: another worker of that name is running, or it is no name.
        """
        descriptor = os.open(self._path(name), os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return descriptor
            except OSError as error:
                if time.monotonic() > deadline:
                    os.close(descriptor)
                    raise UserError(
                        f"A worker called {name!r} is running already, and one is enough for a device. Stop it first, "
                        "or give this one another --name."
                    ) from error
            time.sleep(0.05)

    def held(self, name: str) -> bool:
        """Whether a worker of that name, or the process of its job, is alive."""
        try:
            descriptor = os.open(self._path(name), os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two callers do not hinder each other
            return False
        except OSError:
            return True
        finally:
            os.close(descriptor)

    def any_held(self) -> bool:
        """Whether any worker is alive."""
        return any(self.held(path.stem) for path in self._folder.glob("*.lock"))

    def _path(self, name: str) -> Path:
        if not re.fullmatch(r"[\w:.-]{1,64}", name):
            raise UserError(f"{name!r} is no name for a worker. Use letters, digits, dots and dashes.")
        return self._folder / f"{name}.lock"
