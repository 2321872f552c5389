"""Real workers in processes of their own: killed, stopped, out of memory or disk, and what becomes of their jobs."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch

from benchmarks.job_kills import Trial, crops, same_weights, short_config, undisturbed, wait_for, worker
from lsn_core import Backbone, Detector
from lsn_core.jobs import Jobs
from lsn_core.jobs.audit import audit
from lsn_core.jobs.job import ACTIVE

CONFIG = short_config()
LONG = short_config(epochs=2000)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return crops(tmp_path_factory.mktemp("photos") / "animals")


@pytest.fixture(scope="module")
def weights(photos: Path) -> dict[str, torch.Tensor]:
    return undisturbed(photos, CONFIG)


@pytest.fixture
def jobs(tmp_path: Path, queue_url: str | None) -> Iterator[Jobs]:
    with closing(Jobs(tmp_path / "data", queue_url=queue_url)) as jobs:
        yield jobs


@pytest.mark.parametrize("who", ["worker"])
def test_killed_at_random_moments_it_ends_done_with_the_same_weights(
    tmp_path: Path, queue_url: str | None, who: str
) -> None:
    """The full run is `python -m benchmarks.job_kills`."""
    trial = Trial(tmp_path, who, queue_url)
    with closing(trial.jobs):
        rng = random.Random(queue_url is None)
        for kill in trial.kill([rng.uniform(0.5, 5.0), rng.uniform(3.0, 6.0)]):
            assert (kill.final_state, kill.same_weights, kill.problems) == ("done", True, [])


def test_a_day_of_jobs(
    jobs: Jobs,
    photos: Path,
    examples: Path,
    weights: dict[str, torch.Tensor],
    embedded: Backbone,
    queue_url: str | None,
) -> None:
    """One worker, three owners, jobs that go wrong in between: turns are fair, and the queue goes on."""
    first = jobs.submit(photos, "ann", CONFIG, ood=examples, ood_name="example photos")
    removed = jobs.submit(crops(jobs.folder / "other", ("cat", "dog"), 2), "ann", CONFIG)
    damaged = jobs.submit(crops(jobs.folder / "another", ("cat", "church"), 2), "ben", CONFIG)
    last = jobs.submit(photos, "cem", CONFIG)
    (jobs.files.datasets / removed.dataset).unlink()
    (jobs.files.datasets / damaged.dataset).write_bytes(b"PK\x03\x04 and then nothing of use")
    order = jobs.registry.queue()
    assert order == [first.id, damaged.id, last.id, removed.id]
    with worker(jobs.folder, queue=queue_url):
        for job in (first, damaged, last, removed):
            wait_for(jobs, job.id, "done", "failed")
        assert jobs.working()
    begun = [job_id for job_id, _, state in jobs.registry.history() if state == "preparing"]
    assert begun == order
    states = {job.id: (job.state, job.error) for job in jobs.list()}
    assert states[first.id] == states[last.id] == ("done", None)
    assert states[removed.id][0] == "failed" and "copy of its data set is gone" in str(states[removed.id][1])
    assert states[damaged.id][0] == "failed" and str(states[damaged.id][1]).startswith("another: ")
    assert audit(jobs.folder) == [] and not jobs.working()

    done = jobs.get(first.id)
    assert same_weights(jobs.result(first.id), weights) and same_weights(jobs.result(last.id), weights)
    assert [path.name for path in sorted(jobs.files.folder(first.id).iterdir())] == ["detector.safetensors", "log.txt"]
    detector = Detector.load(jobs.result(first.id), embedded)
    assert detector.calibration is not None
    features = torch.cat([embedded.encode_images([image]) for image in _opened(examples)])
    from sklearn.metrics import roc_auc_score

    known, other = detector.calibration.scores.tolist(), detector.score_features(features).tolist()
    truth = [1] * len(known) + [0] * len(other)
    assert done.metrics["auroc"] == pytest.approx(roc_auc_score(truth, known + other), abs=1e-4)
    assert (done.metrics["n_id"], done.metrics["n_ood"], done.metrics["ood"]) == (14, 16, "example photos")
    assert 0 <= done.metrics["zero_shot_auroc"] <= 1 and done.metrics["id_accuracy"] == 1.0
    points = jobs.progress(first.id)
    assert points[-1].step == done.step == done.total == 90 and points[-1].loss < points[0].loss


def _opened(folder: Path) -> list[object]:
    from lsn_core.images import find_images, open_image

    return [open_image(path) for path in find_images([folder])]


def test_a_stop_takes_two_seconds_and_resuming_ends_with_the_same_weights(
    jobs: Jobs, photos: Path, weights: dict[str, torch.Tensor], queue_url: str | None
) -> None:
    job = jobs.submit(photos, "ann", LONG)
    with worker(jobs.folder, queue=queue_url):
        for state in ("preparing", "training"):
            wait_for(jobs, job.id, state)
            if state == "training":
                _until(lambda: jobs.get(job.id).step > 5)
            begun = time.monotonic()
            assert jobs.stop(job.id).state == "stopped"
            assert time.monotonic() - begun < 2.0
            step = jobs.get(job.id).step
            assert jobs.resume(job.id).error is None
        wait_for(jobs, job.id, "training")
        _until(lambda: jobs.get(job.id).step > step)
        assert min(point.step for point in jobs.progress(job.id)) == 1  # the curve before the break is still there
        assert jobs.seconds_left(jobs.get(job.id)) is not None
        begun = time.monotonic()
        jobs.delete(job.id)
        assert time.monotonic() - begun < 2.5 and jobs.list() == []
    assert not [*jobs.files.jobs.iterdir(), *jobs.files.datasets.iterdir()]


def _until(fine: object, patience: float = 60.0) -> None:
    deadline = time.monotonic() + patience
    while not fine():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_job_beyond_the_memory_limit_fails_and_the_next_one_goes_on(jobs: Jobs, photos: Path) -> None:
    job = jobs.submit(photos, "ann", CONFIG)
    with worker(jobs.folder, "--memory-gib", "0.1"):
        failed = wait_for(jobs, job.id, "done", "failed")
    assert failed.state == "failed" and "more than the 0.1 GiB of memory" in str(failed.error)
    assert not list(jobs.files.folder(job.id).glob("*.safetensors"))
    assert jobs.resume(job.id).state == "queued"


def test_a_worker_ended_in_good_order_gives_its_job_back_and_the_next_one_takes_it_up(
    jobs: Jobs, photos: Path, queue_url: str | None
) -> None:
    job = jobs.submit(photos, "ann", LONG)
    with worker(jobs.folder, queue=queue_url) as process:
        wait_for(jobs, job.id, "training")
        _until(lambda: jobs.get(job.id).step > 5)
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.wait(10)
        assert time.monotonic() - begun < 4.0
    interrupted = jobs.get(job.id)
    assert interrupted.state == "interrupted" and interrupted.losses == 0
    with worker(jobs.folder, "--no-resume", queue=queue_url):
        _until(jobs.working)
        time.sleep(0.2)
        assert jobs.get(job.id).state == "interrupted"
    with worker(jobs.folder, queue=queue_url):
        wait_for(jobs, job.id, *ACTIVE)
        _until(lambda: jobs.get(job.id).step > interrupted.step)
        assert jobs.stop(job.id).state == "stopped"


def test_a_job_that_works_too_long_or_whose_process_dies_fails_with_a_sentence(jobs: Jobs, photos: Path) -> None:
    (jobs.folder / "limits.json").write_text('{"seconds": 4, "crashes": 1}')
    slow = jobs.submit(photos, "ann", LONG)
    with worker(jobs.folder):
        assert "the most a job may take" in str(wait_for(jobs, slow.id, "failed").error)
        jobs.resume(slow.id)
        wait_for(jobs, slow.id, "preparing", "training")
        (child,) = _children(jobs)
        os.kill(child, signal.SIGKILL)  # as the system does when memory runs out
        assert "was killed 1 times in a row" in str(wait_for(jobs, slow.id, "failed").error)
        assert jobs.working()
    assert audit(jobs.folder) == []


def _children(jobs: Jobs) -> list[int]:
    lines = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout.splitlines()
    return [int(line.split()[0]) for line in lines if "lsn_core.jobs.run" in line and str(jobs.folder) in line]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_fails_the_job_and_leaves_nothing_half_written(small_disk: Path, tmp_path: Path) -> None:
    photos = crops(tmp_path / "few", count=4)
    (small_disk / "limits.json").write_text(f'{{"free_bytes": {2**21}}}')
    with closing(Jobs(small_disk)) as jobs:
        job, next_job = (jobs.submit(photos, owner, LONG) for owner in ("ann", "ben"))
        with worker(small_disk):
            wait_for(jobs, job.id, "training")
            _until(lambda: jobs.get(job.id).step > 5)
            filler = _fill(small_disk)
            assert "The disk is full" in str(wait_for(jobs, job.id, "failed").error)
            assert "The disk is nearly full" in str(wait_for(jobs, next_job.id, "failed").error)
            names = {path.name for path in jobs.files.folder(job.id).iterdir()}
            assert names == {"features.safetensors", "training.safetensors", "log.txt"}
            step = jobs.get(job.id).step
            filler.unlink()
            jobs.resume(job.id)
            _until(lambda: jobs.get(job.id).step > step)
            assert jobs.progress(job.id)[0].step == 1  # it went on from its checkpoint
            jobs.delete(job.id)
        assert audit(small_disk) == []


def _fill(folder: Path) -> Path:
    filler = folder / "filler"
    with open(filler, "wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return filler
    raise AssertionError("the disk did not become full")


def test_one_worker_of_a_name_is_enough(jobs: Jobs) -> None:
    with worker(jobs.folder):
        _until(jobs.working)
        from lsn_core import UserError
        from lsn_core.jobs.slots import Slots

        with pytest.raises(UserError, match="'cpu' is running already"):
            Slots(jobs.folder).take("cpu", patience=0.2)
