"""The gallery of heat maps tells the verdicts of today's detectors, and its pictures stay small."""

from __future__ import annotations

import pytest
from support import REPO

from lsn_core import Backbone, examples
from scripts.gallery import CASES, PAGE, PICTURES, Case, caption, opened

MOST_BYTES = 1_500_000


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_page_has_the_verdict(case: Case, embedded: Backbone) -> None:
    (prediction,) = opened(case.detector, embedded).predict([examples()[case.photo]])
    assert caption(case, prediction) in PAGE.read_text(encoding="utf-8")
    assert (PICTURES / f"{case.name}.jpg").is_file()


def test_pictures_are_small_and_all_on_the_page() -> None:
    files = sorted(PICTURES.iterdir())
    assert [file.stem for file in files] == sorted(case.name for case in CASES)
    assert sum(file.stat().st_size for file in files) < MOST_BYTES
    assert PAGE.parent == REPO / "docs"
