"""A damaged list of jobs is kept aside with all that belongs to it; a new one begins, and nothing is lost."""

from __future__ import annotations

import random
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from support import REPO, run_inside

from lsn_core import UserError
from lsn_core.jobs import JobLimits, Jobs
from lsn_core.jobs.storage import damage
from lsn_core.jobs.storage.cleanup import tidy
from lsn_core.jobs.storage.damage import set_damaged_aside
from lsn_core.jobs.storage.database import REGISTRY_FILE
from lsn_core.jobs.storage.locks import Slots
from lsn_core.jobs.worker.queue import QUEUE_FILE

OLD = REPO / "tests" / "fixtures" / "version_0.1" / "data"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with four jobs."""
    shutil.copytree(OLD, tmp_path / "data")
    return tmp_path / "data"


def everything(folder: Path) -> dict[bytes, int]:
    """Contents of all files, whatever their names: how many there are of each."""
    found: dict[bytes, int] = {}
    for path in folder.rglob("*"):
        if path.is_file() and path.name.partition(".damaged")[0] not in ("reserve", "jobs.sqlite-shm", QUEUE_FILE):
            content = path.read_bytes()
            if content.startswith(b"SQLite format 3"):
                content = content[100:]  # its head says how it is written to, and how often that was done
            found[content] = found.get(content, 0) + 1
    return found


def noise(path: Path) -> None:
    path.write_bytes(random.Random(0).randbytes(20_000))


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def overwritten(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:-4096] = random.Random(0).randbytes(len(content) - 8192)
    path.write_bytes(content)


def head_lost(path: Path) -> None:
    path.write_bytes(bytes(100) + path.read_bytes()[100:])


def changed(statement: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with closing(sqlite3.connect(path)) as database:
            database.executescript(f"PRAGMA writable_schema = ON; {statement}")

    return change


DAMAGE: dict[str, Callable[[Path], None]] = {
    "random bytes": noise,
    "cut in half": half,
    "overwritten in the middle": overwritten,
    "its head is lost": head_lost,
    "emptied": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("jobs\n" * 1000),
    "tables that are not there": changed("DROP TABLE jobs; PRAGMA user_version = 1"),
    "a column that is not there": changed("DROP INDEX one_job_a_worker; ALTER TABLE jobs RENAME COLUMN config TO c"),
    "values that are none": changed("UPDATE jobs SET config = '{', classes = 'x'"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_what_is_damaged_is_kept_and_a_new_list_begins(kind: str, data: Path) -> None:
    DAMAGE[kind](data / REGISTRY_FILE)
    before = everything(data)
    (sentence,) = set_damaged_aside(data, QUEUE_FILE)
    assert "\n" not in sentence and "Nothing is deleted" in sentence and str(data) in sentence
    (kept,) = [path for path in data.glob(f"{REGISTRY_FILE}.damaged-*")]
    date = kept.name.partition(".damaged-")[2]
    assert date.startswith(time.strftime("%Y-")) and kept.name in sentence
    assert (data / f"jobs.damaged-{date}").is_dir() and (data / f"datasets.damaged-{date}").is_dir()
    with closing(Jobs(data)) as jobs:
        assert jobs.list() == []
        tidy(jobs.registry, jobs.files, JobLimits())  # what a worker does first: it deletes what is nobody's
        after = everything(data)
        assert [len(content) for content, count in before.items() if after.get(content, 0) < count] == []
        assert set_damaged_aside(data, QUEUE_FILE) == []


def test_what_is_fine_stays_as_it_is(data: Path, tmp_path: Path) -> None:
    names = sorted(path.name for path in data.iterdir())
    assert set_damaged_aside(data, QUEUE_FILE) == []
    assert set(names) <= {path.name for path in data.iterdir()} and not list(data.glob("*.damaged-*"))
    with closing(Jobs(data)) as jobs:
        assert len(jobs.list()) == 4
        assert set_damaged_aside(data, QUEUE_FILE) == []  # while it is in use, with a log that was not yet taken in
    new = tmp_path / "new"
    new.mkdir()
    assert set_damaged_aside(new, QUEUE_FILE) == [] and list(new.iterdir()) == []


def test_twice_in_one_second_are_two_names(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(damage.time, "strftime", lambda form: ".damaged-2030-01-01-000000")
    for _ in range(3):
        noise(data / REGISTRY_FILE)
        set_damaged_aside(data, QUEUE_FILE)
    assert len(list(data.glob(f"{REGISTRY_FILE}.damaged-*"))) == 3


def test_a_log_beside_it_goes_with_it(data: Path) -> None:
    noise(data / REGISTRY_FILE)
    (data / f"{REGISTRY_FILE}-wal").write_bytes(b"what was not taken in")
    set_damaged_aside(data, QUEUE_FILE)
    (kept,) = data.glob(f"{REGISTRY_FILE}-wal.damaged-*")
    assert kept.read_bytes() == b"what was not taken in"


def test_a_damaged_queue_costs_no_job(data: Path) -> None:
    noise(data / QUEUE_FILE)
    (sentence,) = set_damaged_aside(data, QUEUE_FILE)
    assert "queue" in sentence and list(data.glob(f"{QUEUE_FILE}.damaged-*"))
    with closing(Jobs(data)) as jobs:
        assert len(jobs.list()) == 4


def test_what_a_later_version_wrote_is_left_alone(data: Path) -> None:
    with closing(sqlite3.connect(data / REGISTRY_FILE)) as database:
        database.execute("PRAGMA user_version = 999")
    before = (data / REGISTRY_FILE).read_bytes()
    with pytest.raises(UserError, match="later version of this program"):
        set_damaged_aside(data, QUEUE_FILE)
    assert (data / REGISTRY_FILE).read_bytes()[:100] == before[:100] and not list(data.glob("*.damaged-*"))


def test_a_worker_that_is_at_it_is_not_disturbed(data: Path) -> None:
    noise(data / REGISTRY_FILE)
    slot = Slots(data).take("cpu")
    try:
        with pytest.raises(UserError, match="still at it"):
            set_damaged_aside(data, QUEUE_FILE)
    finally:
        slot.close()
    assert not list(data.glob("*.damaged-*"))


@pytest.mark.parametrize("name", [REGISTRY_FILE, QUEUE_FILE])
def test_a_folder_in_a_databases_place_is_said(name: str, data: Path) -> None:
    (data / name).unlink()
    (data / name).mkdir()
    with pytest.raises(UserError, match="is no file"):
        set_damaged_aside(data, QUEUE_FILE)


@pytest.mark.parametrize("command", [["jobs", "list"], ["jobs", "show", "abc"], ["worker"]])
def test_commands_say_it_in_a_sentence_and_move_nothing(command: list[str], data: Path) -> None:
    noise(data / REGISTRY_FILE)
    done = run_inside(*command, "--data", data)
    assert done.returncode == 2 and "is damaged" in done.stderr and "Starting the app" in done.stderr
    assert not list(data.glob("*.damaged-*"))


def test_a_data_directory_that_is_a_file_is_said_by_commands(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    done = run_inside("jobs", "list", "--data", tmp_path / "file")
    assert done.returncode == 2 and "cannot hold jobs" in done.stderr
