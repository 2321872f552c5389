"""The time that is left follows the estimates, and how they have turned out so far."""

from __future__ import annotations

import pytest

from benchmarks.paper import progress
from benchmarks.paper.cells import Cell
from benchmarks.paper.progress import FIRM, Clock, in_words

CELLS = [Cell("ViT-B/16", "ImageNet-10", "CoOp", "paper", seed) for seed in range(3)]


def test_what_is_left_is_estimated_anew_after_each_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    clock = Clock({cell.training: (100.0, 500.0) for cell in CELLS}, 3)
    assert (clock.left(), str(clock)) == (1800.0, "0 of 3 cells, about 30 min left")
    clock.begin(CELLS[:1])
    now[0] = 1000.0  # the encoding took no time, the rest twice as long as estimated
    clock.end(CELLS[:1], 0.0)
    slower, faster = (1000 + FIRM) / (500 + FIRM), FIRM / (100 + FIRM)
    assert clock.left() == pytest.approx(2 * (500 * slower + 100 * faster))
    assert clock.done == 1


def test_a_cell_without_an_estimate_does_not_make_the_rest_endless(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    clock = Clock({cell.training: (0.0, 0.001 if cell.seed == 0 else 600.0) for cell in CELLS}, 3)
    clock.begin(CELLS[:1])
    now[0] = 6.0
    clock.end(CELLS[:1], 0.0)
    assert clock.left() < 1.2 * 1200


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (89, "89 s"), (1800, "30 min"), (7200, "2.0 h"), (864000, "10.0 days"), (1e8, "3.2 years")],
)
def test_times_are_said_as_people_say_them(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
