"""The queue of calls: both storages hand out each call once, carry no pickle, and lose no job when they are away."""

from __future__ import annotations

import pickle
import time
from contextlib import closing
from pathlib import Path

import pytest

from lsn_core import UserError
from lsn_core.jobs.worker.queue import JobQueue


def test_every_call_comes_once_and_missing_ones_are_made_up_for(queue_url: str | None, tmp_path: Path) -> None:
    calls: list[float] = []
    with (
        closing(JobQueue(tmp_path, queue_url)) as sender,
        closing(JobQueue(tmp_path, queue_url, lambda: calls.append(time.monotonic()))) as receiver,
    ):
        sender.call()
        sender.top_up(3)
        sender.top_up(3)
        consumer = receiver.consumer()
        consumer.start()
        deadline = time.monotonic() + 20
        while len(calls) < 3 and time.monotonic() < deadline:
            time.sleep(0.02)
        consumer.stop(graceful=True)
        assert len(calls) == 3 and sender.pending() == 0


def test_a_pickle_in_the_queue_is_not_loaded(queue_url: str | None, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "loaded",)  # type: ignore[return-value]

    with closing(JobQueue(tmp_path, queue_url)) as queue:
        queue._huey.storage.enqueue(pickle.dumps(Evil()))
        with pytest.raises(ValueError):
            queue._huey.dequeue()
    assert not (tmp_path / "loaded").exists()


def test_a_server_that_is_away_loses_no_job_and_a_wrong_address_is_a_sentence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(JobQueue(tmp_path, "redis://127.0.0.1:9/0")) as queue:
        queue.call()
        queue.top_up(2)
    assert "will be tried again" in caplog.text
    with pytest.raises(UserError, match="redis://HOST:PORT/DB"):
        JobQueue(tmp_path, "http://127.0.0.1:6379")


def test_redis_is_needed_only_for_its_own_addresses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("lsn_core.jobs.worker.queue.find_spec", lambda name: None)
    with closing(JobQueue(tmp_path, None)) as queue:
        queue.call()
        assert queue.pending() == 1
    with pytest.raises(UserError, match="pip install redis"):
        JobQueue(tmp_path, "redis://127.0.0.1:1/0")
