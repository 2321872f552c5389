"""A worker that has its accelerator for one call at a time: slices end with the weights of a run without a break."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

import pytest
from support import until

from benchmarks.speed.job_kills import Trial, same_weights, wait_for
from lsn_core.jobs import Jobs, SlicedWorker, WorkerConfig
from lsn_core.jobs.limits import LIMITS_FILE
from lsn_core.jobs.storage.audit import audit
from lsn_core.jobs.worker.attempt import Attempt
from lsn_core.jobs.worker.time_sliced import OnAccelerator

CONFIG = WorkerConfig(device="cpu", threads=1)
Slice = Callable[[Attempt, float], None]


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    trial = Trial(tmp_path_factory.mktemp("sliced"), "worker", photos=8)
    with closing(trial.jobs):
        yield trial


@contextmanager
def working(jobs: Jobs, on_accelerator: OnAccelerator, seconds: float) -> Iterator[SlicedWorker]:
    worker = SlicedWorker(jobs.folder, CONFIG, on_accelerator, seconds, pause_seconds=0.0)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield worker
    finally:
        worker.end()
        thread.join(60)
        assert not thread.is_alive() and not jobs.working()


def test_slices_end_with_the_weights_of_one_run(trial: Trial) -> None:
    slices: list[tuple[str, int]] = []

    def on_accelerator(function: Slice, attempt: Attempt, seconds: float) -> None:
        function(attempt, seconds)
        job = trial.jobs.get(attempt.job)
        slices.append((job.state, job.step))

    job_id = trial.submit()
    # A slice has to be long enough to choose the score and to evaluate, which are not cut.
    with working(trial.jobs, on_accelerator, 1.5):
        job = wait_for(trial.jobs, job_id, "done", "failed")
    assert job.state == "done", job.error
    assert same_weights(trial.jobs.result(job_id), trial.wanted)
    steps = [step for state, step in slices if state == "training"]
    assert len(steps) >= 2 and steps == sorted(set(steps))  # every slice went on from the last
    assert [state for _, _, state in trial.jobs.registry.history(job_id)] == [
        "queued",
        "preparing",
        "training",
        "evaluating",
        "done",
    ]
    assert [point.step for point in trial.jobs.progress(job_id)][-1] == job.total and job.seconds > 0
    assert trial.jobs.queue.pending() == 0 and audit(trial.jobs.folder) == []


def test_a_slice_ends_soon_after_its_job_is_stopped_and_the_job_can_go_on(trial: Trial) -> None:
    long = replace(trial.config, negative=replace(trial.config.negative, epochs=20_000))
    job_id = trial.jobs.submit(trial.images, "ann", long).id
    with working(trial.jobs, lambda function, attempt, seconds: function(attempt, seconds), 600):
        until(lambda: trial.jobs.get(job_id).step > 5)
        begun = time.monotonic()
        assert trial.jobs.stop(job_id).state == "stopped"
        assert time.monotonic() - begun < 4.0
    assert trial.jobs.resume(job_id).state == "queued"
    trial.jobs.delete(job_id)


def test_a_job_without_an_accelerator_fails_after_some_tries_and_says_why(trial: Trial) -> None:
    tries: list[str] = []

    def refuse(function: Slice, attempt: Attempt, seconds: float) -> None:
        tries.append(attempt.claim)
        raise RuntimeError("the quota is used up.")

    job_id = trial.jobs.submit(trial.images, "ann", trial.config).id
    with working(trial.jobs, refuse, 1.0):
        job = wait_for(trial.jobs, job_id, "failed")
    assert job.error is not None and "No accelerator could be had (the quota is used up)" in job.error
    assert len(tries) == trial.jobs.limits.crashes
    trial.jobs.delete(job_id)


def test_the_limit_on_a_jobs_time_holds_over_its_slices(trial: Trial) -> None:
    (trial.jobs.folder / LIMITS_FILE).write_text(json.dumps({"seconds": 0.2}))
    job_id = trial.jobs.submit(trial.images, "ann", trial.config).id
    with working(trial.jobs, lambda function, attempt, seconds: time.sleep(0.05), 1.0):
        job = wait_for(trial.jobs, job_id, "failed", patience=60)
    assert job.error is not None and "the most a job may take" in job.error
