"""What version 0.1 wrote still opens and goes on: jobs, their queue, features, checkpoints and detectors."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from support import REPO

from lsn_core import Backbone, Detector, extract_features, load_data
from lsn_core.jobs import Job, JobLimits, Jobs
from lsn_core.jobs.worker import pipeline
from lsn_core.jobs.worker.attempt import Attempt
from lsn_core.jobs.worker.queue import QUEUE_FILE, JobQueue

FILES = REPO / "tests" / "fixtures" / "version_0.1"
OWNER = "the owner's token"
pytestmark = pytest.mark.usefixtures("one_thread")  # as the files were made: sums depend on how many share them


@pytest.fixture
def backbone(tiny_backbone: Backbone) -> Backbone:
    with safe_open(FILES / "coop.safetensors", "pt") as file:
        made_with = file.metadata()["lsn"]
    assert tiny_backbone.weights_hash in made_with, "this torch draws other weights than the files have"
    return tiny_backbone


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    """The old data directory, copied."""
    shutil.copytree(FILES / "data", tmp_path / "data")
    with closing(Jobs(tmp_path / "data")) as opened:
        yield opened


def named(jobs: Jobs, name: str) -> Job:
    return next(job for job in jobs.list(OWNER) if job.name == name)


def do_next(jobs: Jobs) -> Job:
    """Does the next job in this process, as a worker's would."""
    job = jobs.registry.claim("cpu", "a-claim", 1)
    assert job is not None
    jobs.files.folder(job.id).mkdir(exist_ok=True)
    attempt = Attempt(str(jobs.folder), job.id, "a-claim", "cpu", 0.0)
    pipeline.Pipeline(attempt, jobs.registry, jobs.files, JobLimits(), lambda: False).run(job)
    return jobs.get(job.id)


def test_jobs_go_on_from_where_they_stood(jobs: Jobs, backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "load_backbone", lambda name, device: backbone)
    wanted = load_file(FILES / "coop.safetensors")
    states = {job.name: job.state for job in jobs.list(OWNER)}
    assert states == {"done": "done", "stopped": "stopped", "interrupted": "interrupted", "queued": "queued"}
    done = Detector.load(jobs.result(named(jobs, "done").id, OWNER), backbone)
    assert all(torch.equal(value, wanted[f"contexts.{name}"]) for name, value in done.contexts.items())

    assert jobs.registry.requeue_interrupted() == 1
    went_on = do_next(jobs)
    assert went_on.name == "interrupted" and went_on.state == "done" and went_on.metrics["ood"] == "the same photos"
    steps = [point.step for point in jobs.progress(went_on.id)]
    assert 16 in steps and 2 not in steps  # from step 15 on, and not anew
    contexts = {key: value for key, value in load_file(jobs.result(went_on.id)).items() if key.startswith("contexts.")}
    assert contexts  # of the same steps, by other products since: the last digits differ
    for key, value in contexts.items():
        torch.testing.assert_close(value, wanted[key], rtol=1e-3, atol=1e-5)

    assert do_next(jobs).name == "queued"
    assert jobs.resume(named(jobs, "stopped").id, OWNER).state == "queued"
    assert do_next(jobs).state == "done"
    jobs.delete(named(jobs, "done").id, OWNER)
    assert {job.name for job in jobs.list(OWNER)} == {"stopped", "interrupted", "queued"}


def test_calls_that_wait_in_the_queue_are_answered(tmp_path: Path) -> None:
    shutil.copy(FILES / "data" / QUEUE_FILE, tmp_path)
    calls: list[float] = []
    with closing(JobQueue(tmp_path, None, lambda: calls.append(time.monotonic()))) as queue:
        with closing(sqlite3.connect(tmp_path / QUEUE_FILE)) as database, database:  # it is named after the old folder
            waiting = database.execute("UPDATE task SET queue = ?", (queue._huey.storage.name,)).rowcount
        assert waiting == queue.pending() == 4
        while queue.answer():
            pass
        assert len(calls) == 4


def test_features_are_taken_from_the_cache(jobs: Jobs, backbone: Backbone) -> None:
    class Remembering:
        fingerprint, dim = backbone.fingerprint, backbone.dim

        def encode_images(self, images: list[Image.Image]) -> torch.Tensor:
            raise AssertionError(f"{len(images)} photos are encoded again")

    data = load_data(jobs.files.datasets / named(jobs, "done").dataset)
    features = extract_features(Remembering(), data, cache=jobs.files.cache, progress=False).features
    fresh = extract_features(backbone, data, progress=False).features
    assert len(features) == 24 and torch.allclose(features, fresh, atol=1e-6)


@pytest.mark.parametrize("method", ["coop", "cocoop"])
def test_detector_files_load_and_are_saved_alike(method: str, backbone: Backbone, tmp_path: Path) -> None:
    detector = Detector.load(FILES / f"{method}.safetensors", backbone)
    detector.save(tmp_path / "again.safetensors")
    old, new = load_file(FILES / f"{method}.safetensors"), load_file(tmp_path / "again.safetensors")
    assert old.keys() == new.keys() and all(torch.equal(old[name], new[name]) for name in old)
    features = torch.nn.functional.normalize(torch.randn(5, 64, generator=torch.Generator().manual_seed(1)), dim=-1)
    scores = detector.score_features(features)
    assert scores.isfinite().all() and len(scores.unique()) == 5
    texts = detector.text_features(features)[0]
    assert torch.equal(texts[0], texts[1]) == (method == "coop")  # CoCoOp makes its prompts for each image
