"""Files that are written whole or not at all, by one process at a time."""

from __future__ import annotations

import fcntl
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lsn_core.atomic import check_writable, written_beside
from lsn_core.data.feature_file import open_feature_file
from lsn_core.errors import UserError
from lsn_core.verdicts import COLUMNS, Folder, open_writer

LINE = {name: None for name in COLUMNS} | {"file": "a.jpg", "error": "x" * 1000}


@contextmanager
def small_disk(room: int = 8192) -> Iterator[None]:
    """No file can grow beyond `room` bytes, as on a disk that is nearly full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_full_disk_ends_in_a_sentence_and_leaves_what_was_there(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"verdicts.{ending}"
    path.write_text("old")
    sentence = rf"verdicts\.{ending}: the file cannot be written"
    with pytest.raises(UserError, match=sentence), small_disk(), open_writer(path) as write:
        for number in range(4200):
            write(LINE | {"file": f"{number}.jpg", "error": os.urandom(200).hex()})
    assert path.read_text() == "old" and os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("ending", ["parquet", "npz", "safetensors"])
def test_so_it_does_for_features(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"features.{ending}"
    with pytest.raises(UserError, match="cannot be written"), small_disk(), open_feature_file(path, 4, {}) as write:
        for _ in range(100):
            write(os.urandom(200).hex(), UserError("no picture"))
    assert not os.listdir(tmp_path)


def test_a_copy_that_does_not_fit_is_said(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "unknown", ["a/x.jpg", "b/x.jpg"])
    with pytest.raises(UserError, match=r"x\.jpg: the file cannot be written"), small_disk():
        folder.put("a/x.jpg", bytes(10_000))


def test_what_is_no_place_for_a_file_is_said_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        check_writable(tmp_path / "folder.csv")
    with pytest.raises(UserError, match="Make it first"):
        check_writable(tmp_path / "no" / "x.csv")
    check_writable(tmp_path / "x.csv")
    assert os.listdir(tmp_path) == ["folder.csv"]
    monkeypatch.setattr("builtins.open", _refuse)
    with pytest.raises(UserError, match=r"x\.csv: the file cannot be written \(Read-only file system\)"):
        check_writable(tmp_path / "x.csv")


def _refuse(*_: object, **__: object) -> None:
    raise OSError(30, "Read-only file system")


def test_two_at_once_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.csv"
    with open_writer(path) as write:
        with pytest.raises(UserError, match="another process is writing"), open_writer(path):
            pass
        write(LINE)
    assert path.read_text(encoding="utf-8-sig").count("a.jpg") == 1 and os.listdir(tmp_path) == [path.name]
    with open_writer(path) as write:  # it goes with whoever had it
        write(LINE)


def test_what_a_killed_process_left_is_written_over(tmp_path: Path) -> None:
    (tmp_path / ".verdicts.part.csv").write_text("half a li")
    with open_writer(tmp_path / "verdicts.csv") as write:
        write(LINE)
    assert os.listdir(tmp_path) == ["verdicts.csv"] and "half" not in (tmp_path / "verdicts.csv").read_text()


def test_a_file_system_without_locks_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", none)
    with written_beside(tmp_path / "x.txt") as temporary:
        temporary.write_text("all")
    assert (tmp_path / "x.txt").read_text() == "all"


def test_a_reader_that_has_gone_is_not_the_disk(tmp_path: Path) -> None:
    with pytest.raises(BrokenPipeError), written_beside(tmp_path / "x.txt"):
        raise BrokenPipeError
    assert not os.listdir(tmp_path)
