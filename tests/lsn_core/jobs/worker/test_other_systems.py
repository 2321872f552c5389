"""Workers on systems that lack what POSIX has: no inherited locks, no /proc, no priorities, fewer signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from support import REPO
from typer.testing import CliRunner

from benchmarks.speed.job_kills import crops, short_config, wait_for, worker
from lsn_core.cli.app import build
from lsn_core.errors import UserError
from lsn_core.jobs import Jobs, Worker, WorkerConfig
from lsn_core.jobs.storage.locks import Slots
from lsn_core.jobs.storage.system_locks import OWN
from lsn_core.jobs.worker import memory, parent

WITH_LOCKS_OF_THEIR_OWN = """
import sys
from pathlib import Path
from lsn_core.jobs import Worker, WorkerConfig
from lsn_core.jobs.storage.locks import Slots
from lsn_core.jobs.storage.system_locks import OWN
one = Worker(Path(sys.argv[1]), WorkerConfig("cpu", threads=1, checkpoint_seconds=0.3))
one.slots = Slots(Path(sys.argv[1]), OWN)
one.run()
"""


def until(fine: Callable[[], object], patience: float = 120.0) -> None:
    deadline = time.monotonic() + patience
    while not fine():
        assert time.monotonic() < deadline, "it does not come about"
        time.sleep(0.02)


def test_a_job_s_process_holds_the_place_of_a_worker_that_was_killed(tmp_path: Path) -> None:
    photos = crops(tmp_path / "animals", count=4)
    with closing(Jobs(tmp_path / "data")) as jobs:
        job = jobs.submit(photos, "ann", short_config(epochs=2000))
        of_job = jobs.folder / "workers" / "cpu.job-lock"
        command = [sys.executable, "-c", WITH_LOCKS_OF_THEIR_OWN, str(jobs.folder)]
        process = subprocess.Popen(command, cwd=REPO, stderr=subprocess.DEVNULL)
        try:
            until(lambda: jobs.get(job.id).step > 2)
            assert OWN.held(of_job) and Slots(jobs.folder, OWN).held("cpu")
        finally:
            process.kill()
            process.wait()
        until(lambda: not OWN.held(of_job))  # its process notices and ends, too
        step = jobs.get(job.id).step
        with worker(jobs.folder):
            until(lambda: jobs.get(job.id).step > step)
            assert jobs.progress(job.id)[0].step == 1  # it went on, and did not begin anew
            jobs.stop(job.id)
            wait_for(jobs, job.id, "stopped")


def test_memory_that_cannot_be_watched_is_not_promised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_STATM", str(tmp_path / "{}"))
    with pytest.raises(UserError, match=r"on Linux alone.*LSN_JOB_MEMORY_GIB"):
        Worker(tmp_path, WorkerConfig(memory_gib=1.0))
    Worker(tmp_path, WorkerConfig())


def test_a_priority_that_the_system_does_not_have_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "nice")
    done = CliRunner().invoke(build(), ["worker", "--data", str(tmp_path), "--nice", "5"])
    assert done.exit_code == 2 and "Leave --nice out" in done.output


@pytest.mark.parametrize("kill", [True, False], ids=["posix", "windows"])
def test_a_process_ends_itself_at_once(kill: bool) -> None:
    remove = "" if kill else "del signal.SIGKILL; "
    code = f"import signal; {remove}from {parent.__name__} import end_at_once\ntry: end_at_once()\nfinally: print('no')"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True)
    assert done.stdout == "" and done.returncode == (-signal.SIGKILL if kill else 1)


def test_the_worker_starts_where_there_is_no_sighup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(signal, "SIGHUP")
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    running = Worker(tmp_path, WorkerConfig("cpu"))
    running.end()
    try:
        running.run()
        assert signal.getsignal(signal.SIGTERM) is not before[signal.SIGTERM]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert not Slots(tmp_path).any_held()
