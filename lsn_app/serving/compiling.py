"""Compiles a backbone's image tower while PyTorch answers, so that nobody waits for it."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time

from lsn_core import Backbone

log = logging.getLogger(__name__)

_AFTER_SECONDS = 15.0  # the first visitors come first
_MOST_SECONDS = 600.0


def compile_beside(backbone: Backbone) -> None:
    """Has a backbone run its compiled image tower as soon as there is one, in a thread of its own.

    Converting a tower keeps the interpreter busy for seconds, so a process of lower priority does it.
    """
    if backbone.runtime.can_compile:
        threading.Thread(target=_compile, args=(backbone,), name="compiling", daemon=True).start()


def _compile(backbone: Backbone) -> None:
    if not backbone.runtime.is_converted:
        time.sleep(_AFTER_SECONDS)
        command = [sys.executable, "-m", "lsn_core", "compile", "--no-measure", "--backbone", backbone.name]
        try:
            subprocess.run(
                ["nice", "-n", "15", *command] if sys.platform != "win32" else command,
                check=True,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_MOST_SECONDS,
            )
        except (OSError, subprocess.SubprocessError) as error:
            log.warning("The image tower of %s stays with PyTorch: %s", backbone.name, error)
            return
    if backbone.runtime.compile():
        log.info("The image tower of %s runs compiled from now on.", backbone.name)
