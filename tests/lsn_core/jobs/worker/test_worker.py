"""Real workers in processes of their own: killed, stopped, out of memory or disk, and what becomes of their jobs."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sklearn.metrics import roc_auc_score

from benchmarks.speed.job_kills import Trial, crops, same_weights, short_config, wait_for, worker
from lsn_core import Backbone, Detector, UserError
from lsn_core.data.images import open_image
from lsn_core.jobs import Jobs
from lsn_core.jobs.job import ACTIVE
from lsn_core.jobs.limits import LIMITS_FILE
from lsn_core.jobs.storage.audit import audit
from lsn_core.jobs.storage.locks import Slots

LONG = short_config(epochs=2000)  # longer than any test


def until(fine: Callable[[], object], patience: float = 90.0) -> None:
    deadline = time.monotonic() + patience
    while not fine():
        assert time.monotonic() < deadline, "it does not come about"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return crops(tmp_path_factory.mktemp("photos") / "animals", count=8)


@pytest.fixture
def jobs(tmp_path: Path, queue_url: str | None) -> Iterator[Jobs]:
    with closing(Jobs(tmp_path / "data", queue_url=queue_url)) as jobs:
        yield jobs


def test_a_day_with_kills_and_jobs_that_go_wrong(
    tmp_path: Path, queue_url: str | None, examples: Path, embedded: Backbone
) -> None:
    """Three owners, one worker that is killed at random moments: fair turns, none lost, the same weights.

    The full run of kills is `python -m benchmarks.speed.job_kills`.
    """
    trial = Trial(tmp_path, "worker", queue_url, photos=8)
    with closing(trial.jobs) as jobs:
        first = jobs.submit(trial.images, "ann", trial.config, ood=examples, ood_name="example photos")
        removed = jobs.submit(crops(tmp_path / "other", ("cat", "dog"), 2), "ann", trial.config)
        damaged = jobs.submit(crops(tmp_path / "another", ("cat", "church"), 2), "ben", trial.config)
        last = jobs.submit(trial.images, "cem", trial.config)
        (jobs.files.datasets / removed.dataset).unlink()
        (jobs.files.datasets / damaged.dataset).write_bytes(b"PK\x03\x04 and then nothing of use")
        order = jobs.registry.queue()
        assert order == [first.id, damaged.id, last.id, removed.id]
        rng = random.Random()
        with worker(jobs.folder, queue=queue_url) as process:
            wait_for(jobs, first.id, rng.choice(["preparing", "training"]))
            time.sleep(rng.uniform(0.0, 0.5))
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert [problem for problem in audit(jobs.folder) if "data set is missing" not in problem] == []
        with worker(jobs.folder, queue=queue_url):
            for job in (first, damaged, last, removed):
                wait_for(jobs, job.id, "done", "failed")
            assert jobs.working()
        assert audit(jobs.folder) == [] and not jobs.working()
        begun = [job_id for job_id, _, state in jobs.registry.history() if state == "preparing"]
        assert begun == [first.id, *order]  # the job that was killed went on before the others
        found = {job.id: (job.state, job.error) for job in jobs.list()}
        assert found[first.id] == found[last.id] == ("done", None)
        assert found[removed.id][0] == "failed" and "copy of its data set is gone" in str(found[removed.id][1])
        assert found[damaged.id][0] == "failed" and str(found[damaged.id][1]).startswith("another: ")
        assert same_weights(jobs.result(first.id), trial.wanted) and same_weights(jobs.result(last.id), trial.wanted)
        kept = sorted(path.name for path in jobs.files.folder(first.id).iterdir())
        assert kept == ["detector.safetensors", "log.txt"]
        check_metrics(jobs, first.id, examples, embedded)


def check_metrics(jobs: Jobs, job_id: str, examples: Path, embedded: Backbone) -> None:
    """The reported figures against scikit-learn's on scores of the saved detector."""
    job, detector = jobs.get(job_id), Detector.load(jobs.result(job_id), embedded)
    assert detector.calibration is not None
    other = detector.score_features(
        embedded.encode_images([open_image(path) for path in sorted(examples.glob("*.jpg"))])
    )
    scores = [*detector.calibration.scores.tolist(), *other.tolist()]
    known = len(detector.calibration)
    wanted = roc_auc_score([1] * known + [0] * 16, scores)
    assert job.metrics["auroc"] == pytest.approx(wanted, abs=0.5 / known / 16)  # where rounding makes or breaks a tie
    assert (job.metrics["n_id"], job.metrics["n_ood"], job.metrics["ood"]) == (known, 16, "example photos")
    assert 0 <= job.metrics["zero_shot_auroc"] <= 1 and 0 <= job.metrics["id_accuracy"] <= 1
    points = jobs.progress(job_id)
    # The detector's updates, and as many in each of three folds, which hide one of the three classes each.
    assert points[-1].step == job.step == job.total == 4 * (50 + 60)
    negative = [point.loss for point in points if point.phase == "negative"]
    assert 0 < len(negative) < len(points) and negative[-1] < negative[0]


def test_the_life_of_a_long_job(jobs: Jobs, photos: Path, queue_url: str | None) -> None:
    """Stopped while it prepares and while it trains, given back, limited, killed, deleted."""
    job_id = jobs.submit(photos, "ann", LONG).id
    with worker(jobs.folder, queue=queue_url) as process:
        wait_for(jobs, job_id, "preparing")
        stop_quickly(jobs, job_id)
        jobs.resume(job_id)
        until(lambda: jobs.get(job_id).step > 5)
        stop_quickly(jobs, job_id)
        step = jobs.get(job_id).step
        jobs.resume(job_id)
        until(lambda: jobs.get(job_id).state == "training" and jobs.get(job_id).step > step)
        assert jobs.progress(job_id)[0].step == 1  # the curve before the break is still there
        until(lambda: jobs.seconds_left(jobs.get(job_id)) is not None)
        assert Slots(jobs.folder).any_held()
        with pytest.raises(UserError, match="'cpu' is running already"):
            Slots(jobs.folder).take("cpu", patience=0.2)
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.wait(10)
        assert time.monotonic() - begun < 4.0
    given_back = jobs.get(job_id)
    assert given_back.state == "interrupted" and given_back.losses == 0

    with worker(jobs.folder, "--no-resume", queue=queue_url):
        until(jobs.working)
        time.sleep(0.2)
        assert jobs.get(job_id).state == "interrupted"

    with worker(jobs.folder, "--memory-gib", "0.1", queue=queue_url):  # interrupted jobs go on by themselves
        assert "more than the 0.1 GiB of memory" in str(wait_for(jobs, job_id, "failed").error)
        jobs.resume(job_id)
        assert "more than the 0.1 GiB of memory" in str(wait_for(jobs, job_id, "failed").error)

    (jobs.folder / LIMITS_FILE).write_text(json.dumps({"seconds": 1, "crashes": 1}))
    with worker(jobs.folder, queue=queue_url):
        jobs.resume(job_id)
        assert "worked for 1 s, the most a job may take" in str(wait_for(jobs, job_id, "failed").error)
        jobs.resume(job_id)
        until(lambda: children(jobs))
        os.kill(children(jobs)[0], signal.SIGKILL)  # as the system does when memory runs out
        assert "was killed 1 times in a row" in str(wait_for(jobs, job_id, "failed").error)
        jobs.resume(job_id)
        wait_for(jobs, job_id, *ACTIVE)
        begun = time.monotonic()
        jobs.delete(job_id)
        assert time.monotonic() - begun < 2.5 and jobs.list() == [] and jobs.working()
    assert not [*jobs.files.jobs.iterdir(), *jobs.files.datasets.iterdir()] and audit(jobs.folder) == []


def stop_quickly(jobs: Jobs, job_id: str) -> None:
    begun = time.monotonic()
    assert jobs.stop(job_id).state == "stopped"
    assert time.monotonic() - begun < 2.0


def children(jobs: Jobs) -> list[int]:
    lines = subprocess.run(["ps", "-eww", "-o", "pid=,args="], capture_output=True, text=True, check=True).stdout
    return [
        int(line.split()[0])
        for line in lines.splitlines()
        if "jobs.worker.process" in line and str(jobs.folder) in line
    ]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB. Where none can be mounted: a skip, and in CI a failure."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True)
    if mounted.returncode:
        reason = f"no small file system can be mounted here (it takes root): {mounted.stderr.strip()}"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_fails_the_job_and_leaves_nothing_half_written(small_disk: Path, photos: Path) -> None:
    (small_disk / LIMITS_FILE).write_text(json.dumps({"free_bytes": 2**21}))
    with closing(Jobs(small_disk)) as jobs:
        job, next_job = (jobs.submit(photos, owner, LONG) for owner in ("ann", "ben"))
        checkpoint = jobs.files.folder(job.id) / "training.safetensors"
        with worker(small_disk):
            until(checkpoint.exists)
            filler = fill(small_disk)
            assert "The disk is full" in str(wait_for(jobs, job.id, "failed").error)
            assert "The disk is nearly full" in str(wait_for(jobs, next_job.id, "failed").error)
            names = {path.name for path in checkpoint.parent.iterdir()}
            assert names == {"features.safetensors", "training.safetensors", "log.txt"}
            step = jobs.get(job.id).step
            filler.unlink()
            jobs.resume(job.id)
            until(lambda: jobs.get(job.id).step > step)
            assert jobs.progress(job.id)[0].step == 1  # it went on from its checkpoint
            jobs.stop(job.id)
        assert audit(small_disk) == []


def fill(folder: Path) -> Path:
    filler = folder / "filler"
    with open(filler, "wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return filler
    raise AssertionError("the disk did not become full")
