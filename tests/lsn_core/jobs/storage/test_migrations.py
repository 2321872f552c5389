"""The tables of jobs.sqlite over the versions: old files open, newer ones are refused, a step is taken whole or not."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import fields
from pathlib import Path

import pytest
from support import REPO

from lsn_core import UserError
from lsn_core.jobs.job import MOVES, Job
from lsn_core.jobs.storage import migrations
from lsn_core.jobs.storage.database import REGISTRY_FILE
from lsn_core.jobs.storage.migrations import MIGRATIONS, Migration
from lsn_core.jobs.storage.registry import Registry

OLD = REPO / "tests" / "fixtures" / "version_0.1" / "data" / REGISTRY_FILE
ADDED = Migration(2, "a colour for every job", ("ALTER TABLE jobs ADD COLUMN colour TEXT NOT NULL DEFAULT 'red'",))


def version(folder: Path) -> int:
    with closing(sqlite3.connect(folder / REGISTRY_FILE)) as database:
        return int(database.execute("PRAGMA user_version").fetchone()[0])


def columns(folder: Path) -> list[str]:
    with closing(sqlite3.connect(folder / REGISTRY_FILE)) as database:
        return [row[1] for row in database.execute("PRAGMA table_info(jobs)")]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A data directory with the database of version 0.1, which knew no version numbers."""
    shutil.copy(OLD, tmp_path / REGISTRY_FILE)
    assert version(tmp_path) == 0
    return tmp_path


def test_a_new_file_and_an_old_one_have_the_same_tables_and_hold_every_field_of_a_job(old: Path) -> None:
    new = old / "new"
    for folder in (new, old):
        with closing(Registry(folder)):
            assert version(folder) == MIGRATIONS[-1].number
    assert sorted(columns(new)) == sorted(columns(old)) == sorted(item.name for item in fields(Job))
    with closing(sqlite3.connect(new / REGISTRY_FILE)) as database:
        assert set(database.execute("SELECT before, after FROM moves")) == MOVES


def test_a_column_that_comes_later_is_added_to_an_old_file(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "MIGRATIONS", (*MIGRATIONS, ADDED))
    with closing(Registry(old)) as registry:
        assert [job.state for job in registry.jobs()] == ["queued", "interrupted", "stopped", "done"]
        assert registry.requeue_interrupted() == 1
    assert version(old) == 2 and "colour" in columns(old)
    with closing(Registry(old)):  # nothing is left to do
        assert version(old) == 2


def test_a_file_of_a_later_version_is_refused_and_left_alone(old: Path) -> None:
    with closing(sqlite3.connect(old / REGISTRY_FILE)) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(UserError, match=r"version 99.*Update the program"):
        Registry(old)
    assert version(old) == 99


def test_a_step_that_fails_in_the_middle_leaves_the_file_as_it_was(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = columns(old)
    broken = Migration(2, "half of it is wrong", (*ADDED.statements, "ALTER TABLE nowhere ADD COLUMN x TEXT"))
    monkeypatch.setattr(migrations, "MIGRATIONS", (*MIGRATIONS, broken))
    with pytest.raises(sqlite3.OperationalError):
        Registry(old)
    assert version(old) == 1 and columns(old) == before
    monkeypatch.setattr(migrations, "MIGRATIONS", (*MIGRATIONS, ADDED))
    with closing(Registry(old)) as registry:
        assert len(registry.jobs()) == 4 and version(old) == 2


def test_processes_that_open_a_file_at_once_take_each_step_once(old: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom lsn_core.jobs.storage import migrations as m\n"
        "from lsn_core.jobs.storage.registry import Registry\n"
        "m.MIGRATIONS = (*m.MIGRATIONS, m.Migration(2, 'a column', ('ALTER TABLE jobs ADD COLUMN colour TEXT',)))\n"
        "print(len(Registry(Path(sys.argv[1])).jobs()))\n"
    )
    command = [sys.executable, "-c", script, str(old)]
    opened = [subprocess.Popen(command, cwd=REPO, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [process.communicate(timeout=60)[0].strip() for process in opened] == ["4"] * 4
    assert version(old) == 2 and columns(old).count("colour") == 1
