"""The supervisor: a worker beside a program, started anew when it dies, gone when the program is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from support import REPO

from lsn_core.jobs import Jobs

PROGRAM = """
import sys, time
from pathlib import Path
from lsn_core.jobs import Supervisor
supervisor = Supervisor(Path(sys.argv[1]))
supervisor.start()
while True:
    print(supervisor.process.pid if supervisor.process else 0, flush=True)
    time.sleep(0.1)
"""


def until(fine: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not fine():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_it_starts_a_dead_worker_anew_and_its_own_death_ends_it(tmp_path: Path) -> None:
    with closing(Jobs(tmp_path)) as jobs:
        program = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path)], cwd=REPO, stdout=subprocess.PIPE, text=True
        )
        assert program.stdout is not None
        lines = iter(program.stdout.readline, "")
        try:
            first = next(int(line) for line in lines if int(line))
            until(jobs.working)
            os.kill(first, signal.SIGKILL)
            second = next(int(line) for line in lines if int(line) not in (0, first))
            until(jobs.working)
        finally:
            program.kill()
            program.wait()
        until(lambda: not jobs.working())
        until(lambda: not Path(f"/proc/{second}").exists() or "zombie" in Path(f"/proc/{second}/status").read_text())
