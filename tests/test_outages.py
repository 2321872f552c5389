"""What is kept when the clock jumps, when Redis is gone for a while, and when two whole apps use one data directory."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest
from support import redis_program, until

from benchmarks.speed.job_kills import crops, short_config, wait_for, worker
from benchmarks.speed.job_load import running
from lsn_app.train.words import job_card
from lsn_core.data.feature_cache import CACHE_FILE
from lsn_core.jobs import JobLimits, Jobs
from lsn_core.jobs.storage import clock
from lsn_core.jobs.storage.audit import audit
from lsn_core.jobs.storage.cleanup import tidy
from lsn_core.jobs.storage.clock import SteadyClock

DAY = 86_400.0
# Python reads this when it starts, also in the processes of jobs: the clock is ahead by what a file says.
JUMPING = """
import os, time
_clock = time.time
def _ahead():
    with open(os.environ["CLOCK_AHEAD"]) as file:
        return _clock() + float(file.read() or 0)
time.time = _ahead
"""


@pytest.fixture
def set_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file: its number of seconds is what the clock of programs that are started is ahead by."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(JUMPING)
    (folder / "ahead").write_text("0")
    monkeypatch.setenv("CLOCK_AHEAD", str(folder / "ahead"))
    path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
    monkeypatch.setenv("PYTHONPATH", path)
    yield folder / "ahead"


def test_a_clock_that_jumps_costs_no_job_no_result_and_no_time(tmp_path: Path, set_clock: Path) -> None:
    data = tmp_path / "data"
    photos = crops(tmp_path / "photos", count=4)
    with closing(Jobs(data)) as jobs:
        with worker(data):
            finished = jobs.submit(photos, "ann", short_config(3)).id
            wait_for(jobs, finished, "done", "failed")
            during = jobs.submit(photos, "ann", short_config(60)).id
            wait_for(jobs, during, "training")
            set_clock.write_text(str(400 * DAY))
            until(lambda: (jobs.registry.get(during) or pytest.fail("it is gone")).step > 20)
            left = jobs.seconds_left(jobs.get(during))
            assert left is None or left < 600
            set_clock.write_text(str(-400 * DAY))
            done = wait_for(jobs, during, "done", "failed")
            assert done.state == "done" and 0 < done.seconds < 300  # of a limit of four hours
        with worker(data):  # begins, and so tidies up, with a clock that is wrong from the start
            set_clock.write_text(str(400 * DAY))
            after = jobs.submit(photos, "ben", short_config(3)).id
            assert wait_for(jobs, after, "done", "failed").state == "done"
        assert {job.id for job in jobs.list()} == {finished, during, after}
        assert all(jobs.result(job).is_file() for job in (finished, during, after))
    assert audit(data) == []


def test_jobs_keep_their_order_when_the_clock_is_set_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = crops(tmp_path / "photos", count=4)
    real = time.time
    with closing(Jobs(tmp_path / "data")) as jobs:
        ids = []
        for ahead in (400 * DAY, 0.0, -400 * DAY):
            monkeypatch.setattr(time, "time", lambda ahead=ahead: real() + ahead)
            ids.append(jobs.submit(photos, "ann", short_config(3)).id)
        assert [jobs.position(job) for job in ids] == [1, 2, 3]
        assert [job.id for job in jobs.list("ann")] == ids[::-1]
        jobs.stop(ids[0])
        jobs.resume(ids[0])
        assert jobs.registry.queue() == [*ids[1:], ids[0]]


def test_nothing_is_deleted_for_its_age_before_the_clock_went_evenly_for_an_hour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = {"time": 1e9, "monotonic": 50.0}
    monkeypatch.setattr(clock.time, "time", lambda: now["time"])
    monkeypatch.setattr(clock.time, "monotonic", lambda: now["monotonic"])

    def passes(seconds: float, jump: float = 0.0) -> bool:
        now["time"] += seconds + jump
        now["monotonic"] += seconds
        return steady.trusted()

    steady = SteadyClock()
    assert not passes(0) and not passes(3500) and passes(200)
    assert not passes(60, jump=400 * DAY) and not passes(3500) and passes(200)
    assert not passes(60, jump=-400 * DAY) and passes(3700)
    assert passes(60, jump=5)  # as a clock is set right from time to time


def test_an_old_job_goes_only_by_a_clock_that_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = crops(tmp_path / "photos", count=4)
    with closing(Jobs(tmp_path / "data")) as jobs:
        job = jobs.submit(photos, "ann", short_config(3)).id
        jobs.stop(job)
        on_its_way = jobs.files.datasets / ".incoming"
        on_its_way.write_bytes(b"half")
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + 400 * DAY)
        tidy(jobs.registry, jobs.files, JobLimits(), aged=False)
        assert jobs.get(job).state == "stopped" and on_its_way.exists()
        tidy(jobs.registry, jobs.files, JobLimits(), aged=True)
        assert jobs.list() == [] and not on_its_way.exists()


class Redis:
    """A Redis server that keeps nothing, which can be killed and started again on the same port."""

    def __init__(self, folder: Path) -> None:
        program = redis_program()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
        self.command = [program, *options]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        """Starts it; returns when it listens."""
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: socket.socket().connect_ex(("127.0.0.1", self.port)) == 0, 30)

    def kill(self) -> None:
        """As a power cut would."""
        self.process.kill()
        self.process.wait()


@contextmanager
def redis(folder: Path) -> Iterator[Redis]:
    """A server, ended at last."""
    server = Redis(folder)
    try:
        yield server
    finally:
        server.kill()


@pytest.mark.timeout(900)  # three runs of training and an app, on a machine that may be busy
def test_redis_may_go_and_come_back_while_the_app_and_its_worker_run(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    photos = crops(tmp_path / "photos", count=4)
    with redis(tmp_path) as server:
        variables = {"LSN_QUEUE": server.url, "LSN_JOB_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        with running(data, **variables) as (address, _), closing(Jobs(data, queue_url=server.url)) as jobs:
            until(jobs.working)
            during = jobs.submit(photos, "ann", short_config(60)).id
            wait_for(jobs, during, "training")
            server.kill()
            begun = time.monotonic()
            waiting = jobs.submit(photos, "ben", short_config(3))
            assert jobs.hindrance() and time.monotonic() - begun < 10  # nobody waits for what is not there
            assert waiting.state == "queued"
            assert "cannot be reached" in job_card(waiting, 1, None, jobs.hindrance())
            assert httpx.get(f"{address}/healthz").status_code == 200
            assert wait_for(jobs, during, "done", "failed").state == "done"  # what had begun needs no queue
            assert jobs.get(waiting.id).state == "queued"
            server.start()
            assert jobs.hindrance() == ""
            assert wait_for(jobs, waiting.id, "done", "failed").state == "done"
            last = jobs.submit(photos, "ann", short_config(3)).id
            assert wait_for(jobs, last, "done", "failed").state == "done"
    assert audit(data) == []


def test_two_whole_apps_on_one_data_directory_do_each_job_once_and_show_it_both(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    photos = crops(tmp_path / "photos", count=4)
    with running(data, LSN_JOB_THREADS="1") as (one, _), running(data, LSN_JOB_THREADS="1") as (other, _):
        with closing(Jobs(data)) as jobs, closing(Jobs(data)) as also:
            until(jobs.working)
            ids = [part.submit(photos, owner, short_config(3)).id for part, owner in ((jobs, "ann"), (also, "ben")) * 2]
            ended = [wait_for(also, job, "done", "failed").state for job in ids]
            assert ended == ["done"] * 4
            claims = [job for job, _, state in jobs.registry.history() if state == "preparing"]
            assert sorted(claims) == sorted(ids)  # each was begun once
            assert [job.id for job in jobs.list("ann")] == [job.id for job in also.list("ann")]
        answers = []
        photo = Path("assets/examples/zebra.jpg").read_bytes()
        for address in (one, other, one):
            (path,) = httpx.post(f"{address}/gradio_api/upload", files={"files": ("zebra.jpg", photo)}).json()
            call = httpx.post(f"{address}/gradio_api/call/score", json={"data": [{"path": path}]}).json()
            answers.append(httpx.get(f"{address}/gradio_api/call/score/{call['event_id']}", timeout=60).text)
        assert answers[0].startswith("event: complete") and len(set(answers)) == 1
    assert audit(data) == []
    assert not list(data.rglob("*damaged*"))
    for cache in data.rglob(CACHE_FILE):
        with closing(sqlite3.connect(cache)) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
