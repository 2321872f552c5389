"""What passes between a node and the registry, without Ray between them: answers get lost, and calls come twice."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support import fewer_updates

from benchmarks.speed.job_kills import crops, same_weights, undisturbed
from lsn_core import TrainConfig, get_preset
from lsn_core.jobs import Job, Jobs
from lsn_core.jobs.cluster import relay
from lsn_core.jobs.cluster.messages import Batch, Part
from lsn_core.jobs.cluster.relay import Relay, parts
from lsn_core.jobs.cluster.remote import RemoteAttempt
from lsn_core.jobs.storage.audit import audit
from lsn_core.jobs.worker.attempt import Attempt

pytestmark = pytest.mark.usefixtures("one_thread")


class Unreliable:
    """A node whose first answer to each call is lost."""

    def __init__(self, attempt: RemoteAttempt) -> None:
        self._attempt = attempt
        self.batches: list[Batch] = []

    def ask(self, method: str, *arguments: Any) -> Any:
        """What the second call of the same says."""
        getattr(self._attempt, method)(*arguments)
        answer = getattr(self._attempt, method)(*arguments)
        if method == "take":
            self.batches.append(answer)
        return answer

    def tell(self, method: str) -> None:
        """Nobody waits for an answer to this."""
        getattr(self._attempt, method)()


@pytest.fixture
def config() -> TrainConfig:
    return fewer_updates(get_preset("fast", shots=32), 6, 6)


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    with closing(Jobs(tmp_path / "data")) as jobs:
        yield jobs


def pass_on(jobs: Jobs, stop: Callable[[Job], bool] = lambda job: False) -> tuple[Job, list[Batch]]:
    """Has the next job done; what it then is, and what came from the node."""
    job = jobs.registry.claim("cluster@1", secrets.token_hex(8), 1)
    assert job is not None
    seat = Unreliable(RemoteAttempt({}))
    attempt = Attempt(str(jobs.folder), job.id, job.claim or "", "cpu", 0.0)
    Relay(seat, job, attempt, jobs.registry, jobs.files).run(  # type: ignore[arg-type]
        jobs.limits, None, lambda: stop(jobs.registry.get(job.id) or job)
    )
    return jobs.registry.get(job.id) or job, seat.batches


def test_lost_answers_and_a_stop_change_no_bit_and_each_file_goes_over_once(
    tmp_path: Path, jobs: Jobs, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    images = crops(tmp_path / "images", count=6)
    job_id = jobs.submit(images, "ann", config, ood=crops(tmp_path / "other", ("church", "dog"), 2)).id
    job, first = pass_on(jobs, stop=lambda job: job.step > 2)
    assert job.state == "training" and (jobs.files.folder(job_id) / "training.safetensors").is_file()
    assert next(batch.needs for batch in first if batch.needs) == (job.dataset,)
    jobs.registry.interrupt(job_id, job.claim or "")
    jobs.registry.requeue_interrupted()
    job, second = pass_on(jobs)
    assert job.state == "done", job.error
    assert same_weights(jobs.result(job_id), undisturbed(images, config))
    assert {name for batch in second for name in batch.needs} == {job.ood}  # features were kept, and so given
    sent = [name for batch in first + second for name in batch.files]
    assert sent.count("features.safetensors") == 1 and sent.count("detector.safetensors") == 1
    steps = [point.step for point in jobs.progress(job_id)]
    assert steps[0] == 1 and steps[-1] == job.total and job.metrics["n_ood"] == 4
    assert audit(jobs.folder) == []


def test_a_job_that_cannot_be_done_says_why_as_one_on_this_machine_does(
    tmp_path: Path, jobs: Jobs, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    jobs.submit(crops(tmp_path / "images", count=2), "ann", config, backbone="ViT-B-99:nobody")
    job, batches = pass_on(jobs)
    assert job.state == "failed" and "ViT-B-99" in str(job.error)
    assert any(event.name == "log" and "The job failed." in event.arguments[0] for event in batches[-1].events)


@pytest.mark.parametrize("size", [0, 1, 6, 7, 20])
def test_a_file_in_parts_is_the_file_though_each_comes_twice(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    content = bytes(range(size))
    (tmp_path / "file").write_bytes(content)
    node = RemoteAttempt({})
    for part in parts(tmp_path / "file", 6):
        node.give("0123.zip", part)
        node.give("0123.zip", part)
    assert node._files.dataset("0123.zip").read_bytes() == content
    node.close()


def test_a_file_that_is_not_there_is_said_not_to_be(tmp_path: Path) -> None:
    assert list(parts(tmp_path / "nothing")) == [Part(None, 0, True)]
