"""The page with the curves."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

pytest.importorskip("plotly")

from lsn_core import UserError
from lsn_core.monitoring.page import check_page, figure, verdict, write_page
from lsn_core.monitoring.windows import Window

START = datetime(2026, 5, 1, 8, tzinfo=timezone.utc)
WINDOWS = [
    Window(START, 20, 1, 0, [2] * 10, 0.5, 1.2),
    Window(START + timedelta(hours=1), 0, 0, 3),
    Window(START + timedelta(hours=2), 10, 5, 0, [6, 0, 0, 0, 0, 0, 0, 0, 0, 4], 300.0, 300.0, START),
]


def test_curves_are_what_was_counted() -> None:
    share, tenths, evidence = figure(WINDOWS, 100.0).data
    assert list(share.y) == [0.05, None, 0.5] and list(share.x) == [window.start for window in WINDOWS]
    assert [row[0] for row in tenths.z] == [0.1] * 10 and [row[2] for row in tenths.z] == [0.6, *[0] * 8, 0.4]
    assert list(evidence.y) == [1.2, 1.0, 300.0]


@pytest.mark.parametrize("windows", [WINDOWS, []])
def test_the_page_needs_nothing_else(tmp_path: Path, windows: list[Window]) -> None:
    page = tmp_path / "x.html"
    page.write_text("old")
    write_page(page, windows, 100.0, START, "a <b>", live=True)
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", text) and "a &lt;b&gt;" in text
    assert '<meta http-equiv="refresh"' in text and "ALARM at 2026-05-01 08:00" in text
    write_page(page, windows, 100.0, None, "x", live=False)
    assert '<meta http-equiv="refresh"' not in page.read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["x.html"]


def test_it_says_in_words_how_it_is() -> None:
    assert verdict(WINDOWS, 100.0, None).startswith("30 photos, 20.0% unknown. No alarm")
    assert "chance of at most 0.01" in verdict(WINDOWS, 100.0, START) and verdict([], 100.0, None).startswith(
        "0 photos."
    )


@pytest.mark.parametrize(("name", "sentence"), [("x.pdf", ".html"), ("no/x.html", "Make it first")])
def test_where_it_cannot_be_written_is_said_before(tmp_path: Path, name: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        check_page(tmp_path / name)
