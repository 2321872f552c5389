"""The table of suggested backbones says what was measured."""

from __future__ import annotations

from support import REPO

from benchmarks.speed import backbones


def test_the_embedded_one_is_measured_and_told() -> None:
    row = backbones.measure("embedded")
    assert row["parameters"] > 2e7 and row["image_size"] == 224
    assert 0.2 < row["peak_gib"] < 16 and row["photo_ms"] > 0 and row["text_ms"] > 0
    told = backbones.table([row | {"peak_gib": 1.25, "photo_ms": 1234.5, "text_ms": 7.6}])
    assert told.splitlines()[-1].endswith("| 224 | 1.2 | 1,234 | 8 |") and "`embedded`" in told


def test_its_page_has_a_place_for_the_table() -> None:
    text = (REPO / "docs" / "backbones.md").read_text(encoding="utf-8")
    assert text.count("<!-- backbones -->") == text.count("<!-- /backbones -->") == 1
