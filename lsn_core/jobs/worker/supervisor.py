"""Starts a worker beside a longer-lived program, starts it again when it dies, and ends it with the program."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

log = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
_END_SECONDS = 4.0


class Supervisor:
    """One `python -m lsn_core worker` process.

    The worker reads this process's end from its standard input, so it also ends when this process is killed.
    """

    def __init__(self, folder: Path, options: Sequence[str] = ()) -> None:
        """Describes the worker; `start` starts it.

        Args:
            folder: the data directory.
            options: further options of the command.
        """
        self._command = [sys.executable, "-m", "lsn_core", "worker", "--data", str(folder), "--with-parent", *options]
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._keep_running, name="supervisor", daemon=True)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts the worker, and from now on keeps one running."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the worker in good order: its job is marked as interrupted and goes on with the next worker."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join(_END_SECONDS + 1)

    def _keep_running(self) -> None:
        pause = _FIRST_PAUSE
        while not self._ending.is_set():
            begun = time.monotonic()
            try:
                with subprocess.Popen(self._command, stdin=subprocess.PIPE) as self.process:
                    self._watch(self.process)
            except OSError as error:
                log.error("The training worker cannot be started: %s", error)
            if self._ending.is_set():
                return
            pause = _FIRST_PAUSE if time.monotonic() - begun > _LONGEST_PAUSE else min(2 * pause, _LONGEST_PAUSE)
            log.warning("The training worker ended; it is started again in %.0f s.", pause)
            self._ending.wait(pause)

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        while process.poll() is None:
            if self._ending.wait(0.2):
                process.terminate()
                try:
                    process.wait(_END_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                return
