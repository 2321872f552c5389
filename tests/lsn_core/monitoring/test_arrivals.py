"""Photos that come into a folder, lines that come in a stream, and when they were taken."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from lsn_core import UserError
from lsn_core.monitoring.arrivals import Inbox, by_hours, read_verdicts, time_of


def test_a_photo_is_told_once_and_when_it_is_whole(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    (tmp_path / "in").mkdir()
    photo = tmp_path / "in" / "a.jpg"
    photo.write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("no photo")
    assert inbox.new() == []
    photo.write_bytes(b"half and half")
    assert inbox.new() == []  # it has grown
    ((when, path),) = inbox.new()
    assert path == photo and abs(when.timestamp() - photo.stat().st_mtime) < 1e-3 and when.tzinfo is not None
    assert inbox.new() == []
    os.utime(photo, (1e9, 1e9))  # written anew, as by a camera that has one file
    assert inbox.new() == [] and [path for _, path in inbox.new()] == [photo]


def test_all_that_is_there_is_told_at_once_where_it_is_asked(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.PNG"):
        (tmp_path / name).write_bytes(b"1")
    assert {path.name for _, path in Inbox(tmp_path).new(settled=True)} == {"a.jpg", "b.PNG"}


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder"):
        Inbox(tmp_path / "gone")


def test_hours_are_in_order_and_their_photos_are_mixed() -> None:
    start = datetime(2026, 5, 1, 8, tzinfo=timezone.utc)
    arrivals = [(start + timedelta(minutes=n), n) for n in range(119, -1, -1)]
    mixed = [n for _, n in by_hours(arrivals)]
    assert sorted(mixed[:60]) == list(range(60)) and mixed[:60] != sorted(mixed[:60])
    assert mixed == [n for _, n in by_hours(arrivals)]  # the same each time


def test_a_time_is_told_in_three_ways(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    os.utime(tmp_path / "a.jpg", (1e9, 1e9))
    moment = datetime(2001, 9, 9, 1, 46, 40, tzinfo=timezone.utc)
    assert time_of({"file": str(tmp_path / "a.jpg")}) == moment
    assert time_of({"time": "2001-09-09T01:46:40Z", "file": "gone.jpg"}) == moment
    assert time_of({"time": 1e9, "file": "gone.jpg"}) == moment
    assert time_of({"file": "gone.jpg"}) is None and time_of({"file": "a\0b"}) is None


@pytest.mark.parametrize("time", ["yesterday", [], 1e30, "2026-13-01"])
def test_other_times_are_refused(time: object) -> None:
    with pytest.raises(UserError, match="ISO 8601"):
        time_of({"time": time})


def test_lines_are_numbered() -> None:
    assert list(read_verdicts(['{"a": 1}\n', "\n", '{"a": 2}'], "x")) == [(1, {"a": 1}), (3, {"a": 2})]
    for text in ("file,verdict", "[1]"):
        with pytest.raises(UserError, match="x, line 1"):
            list(read_verdicts([text], "x"))
