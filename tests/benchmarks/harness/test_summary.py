"""Means, spreads and intervals of made-up rows, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.harness.measure import DRAWS, Row
from benchmarks.harness.summary import AVERAGE, by_seed, plain, summarise


def row(protocol: str, split: str, seed: int | None, auroc: float, lead: float, draws: list[float]) -> Row:
    return {
        "protocol": protocol,
        "split": split,
        "seed": seed,
        "method": "m",
        **{"auroc": auroc, "fpr95": 1 - auroc, "aupr": 1.0, "id_accuracy": None, "sampled": False},
        **{"auroc_lead": lead, "fpr95_lead": -lead, DRAWS: np.array([[draw, -draw] for draw in draws])},
    }


ROWS = [
    row("p", "one", 0, 0.80, 0.01, [0.0, 0.02]),
    row("p", "one", 1, 0.82, 0.03, [0.02, 0.04]),
    row("p", "two", 0, 0.90, 0.05, [0.04, 0.06]),
    row("p", "two", 1, 0.94, 0.07, [0.06, 0.08]),
    row("q", "only", 0, 0.50, -0.10, [-0.2, 0.0]),
    row("q", "only", 1, 0.60, 0.00, [-0.1, 0.1]),
]


def test_means_and_spreads_over_splits_and_over_seeds() -> None:
    p, q, average = summarise(ROWS, ("protocol", "method"), "protocol")
    assert (p["auroc"], p["fpr95"], p["id_accuracy"], p["n"]) == (86.5, 13.5, None, 2)
    assert p["auroc_splits"] == pytest.approx(np.std([81, 92], ddof=1), abs=0.01)
    assert p["auroc_seeds"] == pytest.approx(np.std([85, 88], ddof=1), abs=0.01)
    assert q["auroc_splits"] is None
    # Each set weighs the same, however many splits it has.
    assert (average["protocol"], average["auroc"], average["auroc_splits"]) == (AVERAGE, 70.75, None)
    assert average["auroc_seeds"] == pytest.approx(np.std([67.5, 74], ddof=1), abs=0.01)


def test_an_interval_is_of_the_mean_over_draws_that_all_share() -> None:
    p, _, average = summarise(ROWS, ("protocol", "method"), "protocol")
    assert p["auroc_lead"] == 4.0
    # Means over rows in the two draws are 3 and 5; of q -15 and 5; of the average -6 and 5.
    assert (p["auroc_low"], p["auroc_high"]) == pytest.approx((3 + 0.025 * 2, 5 - 0.025 * 2))
    assert (average["auroc_low"], average["auroc_high"]) == pytest.approx((-6 + 0.025 * 11, 5 - 0.025 * 11), abs=0.01)
    assert (average["fpr95_low"], average["fpr95_high"]) == pytest.approx((-5 + 0.025 * 11, 6 - 0.025 * 11), abs=0.01)
    assert average["auroc_lead"] == pytest.approx((4.0 - 5.0) / 2)


def test_each_seed_alone() -> None:
    lines = by_seed([*ROWS, row("p", "one", None, 0.7, 0.0, [0.0, 0.0])], ("protocol", "method"), "protocol")
    found = {(line["seed"], line["protocol"]): line["auroc"] for line in lines}
    assert found == {
        (0, "p"): 85.0,
        (0, "q"): 50.0,
        (0, AVERAGE): 67.5,
        (1, "p"): 88.0,
        (1, "q"): 60.0,
        (1, AVERAGE): 74.0,
    }


def test_a_method_without_seeds_has_no_spread_over_them() -> None:
    (line,) = summarise([row("p", "one", None, 0.8, 0.0, [0.0, 0.0])], ("protocol", "method"))
    assert line["auroc_seeds"] is None


def test_draws_are_not_written() -> None:
    assert all(DRAWS not in line and line["auroc"] for line in plain(ROWS))
