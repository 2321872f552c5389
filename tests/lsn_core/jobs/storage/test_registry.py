"""The registry: no job in two states, fair turns, no report from a worker that lost its job, no endless crash loop."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from lsn_core.jobs.job import Job, Point
from lsn_core.jobs.limits import JobLimits
from lsn_core.jobs.storage.audit import audit
from lsn_core.jobs.storage.database import REGISTRY_FILE, RESERVE_FILE
from lsn_core.jobs.storage.registry import LostClaim, Registry

LIMITS = JobLimits(per_owner=100)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with closing(Registry(tmp_path)) as registry:
        yield registry


def add(registry: Registry, job_id: str, owner: str = "ann") -> None:
    now = time.time()
    job = Job(job_id, owner, job_id, "queued", "data.zip", {"cat": 2}, None, None, "embedded", {}, now, now)
    registry.add(job, LIMITS, lambda: None)


def claimed(registry: Registry, job_id: str = "one") -> Job:
    add(registry, job_id)
    job = registry.claim("worker", f"claim of {job_id}", 1)
    assert job is not None
    return job


def test_the_database_itself_refuses_an_illegal_change(registry: Registry, tmp_path: Path) -> None:
    add(registry, "one")
    with closing(sqlite3.connect(tmp_path / REGISTRY_FILE)) as database:
        for state in ("training", "evaluating", "done", "no such state", "queued"):
            with pytest.raises(sqlite3.IntegrityError):
                database.execute("UPDATE jobs SET state = ?, claim = 'x', result = 'x'", (state,))
        with pytest.raises(sqlite3.IntegrityError):  # preparing, but nobody is at it
            database.execute("UPDATE jobs SET state = 'preparing'")
    assert [state for _, _, state in registry.history("one")] == ["queued"]


def test_a_life_leaves_its_history_and_metrics(registry: Registry, tmp_path: Path) -> None:
    job = claimed(registry)
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "data.zip").write_bytes(b"")
    registry.prepared("one", job.claim, 2, 2)
    registry.advance("one", job.claim, "training")
    for step in (1, 2, 3):
        registry.trained("one", job.claim, Point(step, "positive", 1 / step, 0.5, 0.1 * step), 3, first=step == 1)
    assert audit(tmp_path) == []
    registry.advance("one", job.claim, "evaluating")
    registry.finish("one", job.claim, "detector.safetensors", {"auroc": 0.9})
    states = [state for _, _, state in registry.history("one")]
    assert states == ["queued", "preparing", "training", "evaluating", "done"]
    assert [point.step for point in registry.progress("one")] == [1, 2, 3]
    done = registry.get("one")
    assert done is not None and done.metrics == {"auroc": 0.9} and done.finished is not None and done.claim is None
    assert audit(tmp_path) == ["Job one: its result is missing"]
    json.dumps(done.as_dict())


def test_owners_take_turns_whatever_they_queued(registry: Registry) -> None:
    for job_id, owner in (("a1", "ann"), ("a2", "ann"), ("a3", "ann"), ("b1", "ben"), ("c1", "cem"), ("c2", "cem")):
        add(registry, job_id, owner)
    assert registry.queue() == ["a1", "b1", "c1", "a2", "c2", "a3"]
    for i, wanted in enumerate(["a1", "b1"]):
        job = registry.claim(f"worker {i}", f"claim {i}", 1)
        assert job is not None and job.id == wanted
    add(registry, "d1", "dia")  # not served yet, like cem, who was here before her
    assert registry.queue() == ["c1", "d1", "a2", "c2", "a3"]
    registry.interrupt("a1", "claim 0")
    assert registry.requeue_interrupted() == 1
    assert registry.queue()[0] == "a1"  # it has had its turn, and goes on


def test_workers_that_ask_at_once_never_get_the_same_job(tmp_path: Path) -> None:
    with closing(Registry(tmp_path)) as registry:
        for i in range(24):
            add(registry, f"job {i}", f"owner {i % 3}")
    found: list[str] = []

    def work(name: str) -> None:
        with closing(Registry(tmp_path)) as registry:
            while job := registry.claim(name, f"{name} {time.monotonic_ns()}", 1):
                found.append(job.id)
                registry.stopped(job.id, job.claim or "")

    threads = [threading.Thread(target=work, args=(f"worker {i}",)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted(f"job {i}" for i in range(24))


def test_a_worker_that_lost_its_job_cannot_report(registry: Registry) -> None:
    old = claimed(registry)
    registry.interrupt("one", old.claim, lost=True, limit=10)
    registry.requeue_interrupted()
    new = registry.claim("another", "new claim", 1)
    assert new is not None
    point = Point(1, "positive", 1.0, 0.5, 0.1)
    for report in (
        lambda: registry.trained("one", old.claim, point, 3, first=True),
        lambda: registry.advance("one", old.claim, "training"),
        lambda: registry.fail("one", old.claim, "too late"),
        lambda: registry.interrupt("one", old.claim),
    ):
        with pytest.raises(LostClaim):
            report()
    assert registry.get("one") == new and not registry.progress("one")


def test_a_job_that_only_kills_its_worker_fails_and_one_that_moves_forward_does_not(registry: Registry) -> None:
    add(registry, "stuck")
    add(registry, "slow", "ben")
    for attempt in range(6):
        for name in ("stuck", "slow"):
            job = registry.claim("worker", f"{name} {attempt}", 1)
            if job is None:
                continue
            if job.id == "slow":
                registry.prepared(job.id, job.claim, attempt + 1, 9)
            registry.interrupt(job.id, job.claim, lost=True, limit=3)
        registry.requeue_interrupted()
    stuck, slow = registry.get("stuck"), registry.get("slow")
    assert stuck is not None and slow is not None
    assert stuck.state == "failed" and "killed 3 times" in (stuck.error or "")
    assert slow.state == "queued"


def test_a_resumed_job_forgets_the_steps_it_does_again(registry: Registry) -> None:
    job = claimed(registry)
    registry.advance("one", job.claim, "training")
    for step in range(1, 6):
        registry.trained("one", job.claim, Point(step, "positive", 1.0, 0.5, 0.1), 9, first=step == 1)
    registry.interrupt("one", job.claim, lost=True)
    registry.requeue_interrupted()
    registry.claim("worker", "again", 1)
    registry.advance("one", "again", "training")
    registry.trained("one", "again", Point(3, "positive", 1.0, 0.5, 0.1), 9, first=True)
    assert [point.step for point in registry.progress("one")] == [1, 2, 3]


def test_a_stop_asked_of_a_worker_that_died_is_kept(registry: Registry) -> None:
    job = claimed(registry)
    registry.ask_stop("one")
    assert registry.stop_requested("one")
    registry.interrupt("one", job.claim, lost=True)
    found = registry.get("one")
    assert found is not None and found.state == "stopped"
    assert registry.resume("one", LIMITS)
    again = registry.claim("worker", "again", 1)
    assert again is not None and not again.stop_requested


def test_a_reserve_lets_a_failure_be_written_on_a_full_disk(registry: Registry, tmp_path: Path) -> None:
    job = claimed(registry)
    database = registry.connection
    pages = database.execute("PRAGMA page_count").fetchone()[0]
    database.execute(f"PRAGMA max_page_count = {pages}")  # SQLite's own "database or disk is full"
    sentence = "x" * 100_000
    with pytest.raises(sqlite3.OperationalError, match="full"):
        registry.fail("one", job.claim, sentence)
    assert not (tmp_path / RESERVE_FILE).exists()  # it was given up for the second try
    database.execute(f"PRAGMA max_page_count = {pages + 1000}")
    registry.fail("one", job.claim, sentence)
    registry.keep_reserve()
    assert (tmp_path / RESERVE_FILE).stat().st_size == 2**20


def test_limits_of_the_queue_hold_for_new_and_resumed_jobs(registry: Registry) -> None:
    from lsn_core.errors import UserError

    add(registry, "one")
    registry.ask_stop("one")
    add(registry, "two")
    with pytest.raises(UserError, match="1 unfinished jobs, and 1 are allowed"):
        registry.resume("one", replace(LIMITS, per_owner=1))
    with pytest.raises(UserError, match="as many as the queue takes"):
        registry.check_queue("ben", replace(LIMITS, queue=1))
