"""Progress is a bar on a terminal, and lines in a log."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import pytest
from support import run_inside

from lsn_core import progress
from lsn_core.progress import progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def told(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, **options: object) -> str:
    monkeypatch.setattr(sys, "stderr", stream)
    with progress_bar("Scoring", "image", 100, **options) as bar:
        for _ in range(50):
            bar.update(2)
    return stream.getvalue()


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    text = told(monkeypatch, Terminal())
    assert "image/s" in text and "100/100" in text and "\r" in text


def test_a_log_gets_lines_with_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    line = r"Scoring: \d+ of 100 images, +[\d.,]+image/s, [\d:]+ left"
    (last,) = told(monkeypatch, io.StringIO()).splitlines()  # it is over before a line is due
    assert re.fullmatch(line, last) and "100 of 100" in last and "00:00 left" in last
    monkeypatch.setattr(progress, "EVERY", 0.0)
    lines = told(monkeypatch, io.StringIO()).splitlines()
    assert len(lines) > 40 and all(re.fullmatch(line, one) for one in lines)


def test_silence_and_what_is_soon_over_tell_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream in (io.StringIO(), Terminal()):
        assert told(monkeypatch, stream, shown=False) == ""
    assert told(monkeypatch, io.StringIO(), delay=60) == ""


def test_a_run_in_the_background_ends_with_its_rate(examples: Path, tmp_path: Path) -> None:
    photos = [str(examples / "dog.jpg")] * 25  # equal ones are encoded once
    done = run_inside("score", "--classes", "dog,cat", "--out", tmp_path / "v.csv", *photos)
    assert done.returncode == 0 and not done.stdout
    assert re.search(r"^Scoring: 25 of 25 images, .*image/s, 00:00 left$", done.stderr, re.M)
    few = run_inside("score", "--classes", "dog,cat", "--out", tmp_path / "w.csv", *photos[:3])
    assert few.returncode == 0 and "image/s" not in few.stderr
