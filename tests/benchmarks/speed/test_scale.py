"""How two ways' features are compared, and the page's part of sections."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import MadeUpBackbone, unit_vectors

from benchmarks.speed import scale
from lsn_core import Detector


def test_what_differs_is_counted() -> None:
    prompts = unit_vectors(4, 3)
    detector = Detector(MadeUpBackbone(), ["a", "b"], prompts[:2], prompts[2:][None], score_name="max-cosine")  # type: ignore[arg-type]
    rows = list(torch.cat([prompts[:2], -prompts[:1]]).numpy())
    same = scale.compare(detector, rows, [row.copy() for row in rows])
    assert same == {"largest_difference": 0.0, "equal_rows": 3, "verdicts_that_differ": 0}
    other = scale.compare(detector, rows, [rows[0], rows[1], rows[1]])
    assert other["equal_rows"] == 2 and other["verdicts_that_differ"] == 1
    assert other["largest_difference"] == pytest.approx(float(np.abs(rows[2] - rows[1]).max()))


def test_a_page_shows_the_sections_that_were_measured() -> None:
    classes = {"sets": 3, "dim": 512, "texts_per_second": 100.0, "verdicts_per_second": {"1000": [500.0, 100.0]}}
    text = scale.scale_section([{"classes": classes}])
    assert text.startswith("**Long lists of classes**")
    assert "| 1,000 | 4,000 | 40 | 7.8 | 500 | 100 |" in text
