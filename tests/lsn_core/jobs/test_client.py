"""The jobs of a data directory as their owners see them: limits, bad data sets, copies, other people's jobs."""

from __future__ import annotations

import json
import os
import stat
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.speed.job_kills import crops, short_config
from lsn_core import UserError
from lsn_core.jobs import JobLimits, Jobs
from lsn_core.jobs.limits import LIMITS_FILE
from lsn_core.jobs.storage.audit import audit
from lsn_core.jobs.storage.cleanup import tidy

CONFIG = short_config()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return crops(tmp_path_factory.mktemp("photos") / "animals", count=4)


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    with closing(Jobs(tmp_path / "data", JobLimits(per_owner=100, queue=100, free_bytes=0))) as jobs:
        yield jobs


def zipped(path: Path, entries: dict[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def link(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "unreadable": (lambda path: path.write_bytes(b"PK\x03\x04 and then nothing of use"), "damaged"),
    "no zip": (lambda path: path.write_text("hello"), "neither a folder"),
    "bomb": (lambda path: zipped(path, {"cat/1.png": bytes(2**26), "dog/1.png": b"x"}), "200 times its size"),
    "outside": (lambda path: zipped(path, {"../cat/1.png": b"x", "dog/1.png": b"x"}), "points outside"),
    "link": (lambda path: zipped(path, {link("cat/1.png"): b"/etc/passwd", "dog/1.png": b"x"}), "link or a device"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_data_set_that_cannot_be_used_is_a_failed_job_and_leaves_no_file(
    jobs: Jobs, photos: Path, tmp_path: Path, kind: str
) -> None:
    make, words = BAD[kind]
    make(tmp_path / "mine.zip")
    job = jobs.submit(tmp_path / "mine.zip", "ann", CONFIG)
    assert job.state == "failed" and job.error is not None
    assert words in job.error and job.error.startswith("mine.zip") and str(tmp_path) not in job.error
    assert jobs.list("ann") == [job]
    assert not [*jobs.files.datasets.iterdir(), *jobs.files.jobs.iterdir()]
    assert jobs.submit(photos, "ann", CONFIG).state == "queued"
    assert audit(jobs.folder) == []


LIMIT_CASES = {
    "queue": ({"queue": 1}, "as many as the queue takes"),
    "per_owner": ({"per_owner": 1}, "1 unfinished jobs, and 1 are allowed"),
    "data_bytes": ({"data_bytes": 10_000}, "larger than the"),
    "images": ({"images": 11}, "12 images; a job takes at most 11"),
    "classes": ({"classes": 2}, "3 classes; a job takes at most 2"),
    "free_bytes": ({"free_bytes": 2**60}, "The disk is nearly full"),
}


@pytest.mark.parametrize("limit", LIMIT_CASES)
def test_each_limit_is_told_before_any_work_starts(jobs: Jobs, photos: Path, limit: str) -> None:
    changes, words = LIMIT_CASES[limit]
    first = jobs.submit(photos, "ann", CONFIG)
    kept = sorted(jobs.files.datasets.iterdir())
    jobs.limits = replace(jobs.limits, **changes)
    with pytest.raises(UserError, match=words):
        jobs.submit(photos, "ann", CONFIG)
    assert jobs.list() == [first] and sorted(jobs.files.datasets.iterdir()) == kept


def test_limits_come_from_a_file_and_its_mistakes_are_sentences(tmp_path: Path) -> None:
    assert JobLimits.read(tmp_path) == JobLimits()
    (tmp_path / LIMITS_FILE).write_text(json.dumps({"queue": 3, "seconds": 0.5}))
    assert JobLimits.read(tmp_path) == JobLimits(queue=3, seconds=0.5)
    for text in ('{"queue": "many"}', '{"queue": 1.5}', '{"queue": -1}', '{"kew": 3}', "[]", "{"):
        (tmp_path / LIMITS_FILE).write_text(text)
        with pytest.raises(UserError):
            JobLimits.read(tmp_path)


def test_equal_data_sets_share_a_copy_that_goes_with_the_last_job(jobs: Jobs, photos: Path) -> None:
    first, second = (jobs.submit(photos, owner, CONFIG) for owner in ("ann", "ben"))
    assert first.dataset == second.dataset and len(list(jobs.files.datasets.iterdir())) == 1
    assert first.classes == {"cat": 4, "elephant": 4, "zebra": 4}
    jobs.delete(first.id)
    assert (jobs.files.datasets / first.dataset).is_file()
    jobs.delete(second.id)
    assert not list(jobs.files.datasets.iterdir()) and jobs.list() == []


def test_the_jobs_of_others_are_not_there(jobs: Jobs, photos: Path) -> None:
    job = jobs.submit(photos, "ann's token", CONFIG)
    assert jobs.list("ann's token") == [job] and jobs.list("ben's token") == []
    assert "ann's token" not in json.dumps(job.as_dict())
    for attempt in (jobs.get, jobs.stop, jobs.resume, jobs.delete, jobs.result):
        with pytest.raises(UserError, match="There is no job"):
            attempt(job.id, "ben's token")
    assert jobs.get(job.id, "ann's token") == job


def test_only_what_can_be_resumed_is(jobs: Jobs, photos: Path) -> None:
    job = jobs.submit(photos, "ann", CONFIG)
    with pytest.raises(UserError, match="only stopped"):
        jobs.resume(job.id)
    assert jobs.stop(job.id).state == "stopped" and jobs.position(job.id) is None
    assert jobs.resume(job.id).state == "queued" and jobs.position(job.id) == 1
    with pytest.raises(UserError, match="has no detector yet"):
        jobs.result(job.id)


def test_old_jobs_and_strays_are_tidied_away_and_waiting_jobs_never(jobs: Jobs, photos: Path) -> None:
    old, waiting = (jobs.submit(photos, "ann", CONFIG) for _ in range(2))
    jobs.stop(old.id)
    stray_job, stray_data = jobs.files.folder("0123456789ab"), jobs.files.datasets / "stray.zip"
    abandoned, arriving = jobs.files.datasets / ".incoming-old", jobs.files.datasets / ".incoming-new"
    stray_job.mkdir()
    for path in (stray_data, abandoned, arriving):
        path.write_bytes(b"x")
    os.utime(abandoned, (time.time() - 7200,) * 2)
    tidy(jobs.registry, jobs.files, jobs.limits)
    assert [job.id for job in jobs.list()] == [waiting.id, old.id] and arriving.exists()
    assert not any(path.exists() for path in (stray_job, stray_data, abandoned))
    tidy(jobs.registry, jobs.files, replace(jobs.limits, kept_bytes=1))
    assert [job.id for job in jobs.list()] == [waiting.id] and (jobs.files.datasets / waiting.dataset).is_file()
    jobs.stop(waiting.id)
    tidy(jobs.registry, jobs.files, replace(jobs.limits, kept_days=0))
    assert jobs.list() == []


def test_out_of_distribution_photos_may_lie_in_any_folders(jobs: Jobs, photos: Path, examples: Path) -> None:
    job = jobs.submit(photos, "ann", CONFIG, ood=examples, ood_name="example photos")
    assert job.state == "queued" and job.ood_name == "example photos"
    assert len(list(jobs.files.datasets.iterdir())) == 2
    jobs.delete(job.id)
    assert not list(jobs.files.datasets.iterdir())


def test_a_file_that_vanished_is_named(jobs: Jobs, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.zip cannot be copied"):
        jobs.submit(tmp_path / "gone.zip", "ann", CONFIG)
