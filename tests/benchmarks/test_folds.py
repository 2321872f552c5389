"""What is varied on folds, and how leads over `fast` are told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.folds import DEFAULT, SHOTS, UPDATES, _Row, schedules_section, variants
from lsn_core import get_preset
from lsn_core.scores.registry import BASELINE


def test_schedules_differ_in_updates_and_rates_alone() -> None:
    found = list(variants("updates", 128))
    assert {(about["shots"], about["updates"]) for about, _ in found} == {
        (shots, f"{positive} + {negative}") for shots in SHOTS for positive, negative in UPDATES
    }
    fast = replace(get_preset("fast", shots=4), choose_score=False, calibration_share=0.0)
    (same,) = [about for about, config in found if config == fast]
    assert same == {"shots": 4, "updates": "50 + 60", "rate": 1.0}
    for about, config in found:
        assert config.negative.lr == about["rate"] * fast.negative.lr
        assert replace(config.positive, lr=1, updates=1) == replace(fast.positive, lr=1, updates=1)
    *shorter, (about, paper) = variants("paper", 16)
    assert about["updates"] == "as the paper" and paper.positive == get_preset("paper").positive
    assert [config.shots for _, config in shorter] == [16] * len(UPDATES)


def test_a_lead_is_over_fast_set_by_set() -> None:
    scores = (BASELINE, "mcm", "lsn", "difference", DEFAULT)
    measured = {
        "50 + 60": [(0.7, 0.5), (0.9, 0.1)],
        "25 + 30": [(0.69, 0.5), (0.91, 0.1)],
        "15 + 20": [(0.6, 0.5), (0.7, 0.1)],
    }
    rows = [
        _Row(
            {"protocol": "average", "shots": 16, "updates": updates, "rate": 1.0, "score": score},
            16,
            updates == "50 + 60",
            metrics,
            [2.0, 3.0],
        )
        for updates, metrics in measured.items()
        for score in scores
    ]
    told = [row.told(rows) for row in rows]
    by_updates = {row["updates"]: row for row in told if row["score"] == "lsn"}
    assert by_updates["50 + 60"]["lead"] == by_updates["50 + 60"]["lead_error"] == 0
    assert by_updates["25 + 30"]["lead"] == pytest.approx(0) and by_updates["25 + 30"]["lead_error"] == pytest.approx(1)
    assert by_updates["15 + 20"]["lead"] == pytest.approx(-15) and by_updates["15 + 20"]["train_seconds"] == 2.5
    assert "| 16 | 15 + 20 | 2.5 | 65.00 (-15.00 ± 5.00) |" in schedules_section(told)
