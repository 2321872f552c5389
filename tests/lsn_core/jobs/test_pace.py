"""How long training still takes."""

from __future__ import annotations

import itertools

import pytest

from lsn_core import get_preset
from lsn_core.jobs.job import Point
from lsn_core.jobs.pace import Plan, seconds_left


@pytest.mark.parametrize("ratio", [1.5, 2.2, 3.0])
@pytest.mark.parametrize("folds", [0, 2])
def test_the_time_left_does_not_grow_when_dearer_steps_begin(ratio: float, folds: int) -> None:
    total = (50 + 60) * (1 + folds)
    plan = Plan.of(get_preset("fast"), 160, total)
    assert (plan.positive, plan.negative, plan.cost) == (50, 60, 3)
    costs = ([1.0] * 50 + [ratio] * 60) * (1 + folds)
    seconds = list(itertools.accumulate(costs))
    points = [Point(i + 1, "positive", 1.0, 0.5, seconds[i]) for i in range(total)]
    left = [seconds_left(points[: i + 1], total, plan) for i in range(total)]
    known = [value for value in left if value is not None]
    assert left[0] is None and known[-1] == 0 and len(known) > 0.9 * total
    assert all(later <= earlier for earlier, later in itertools.pairwise(known))
    if ratio == 3.0:
        assert known[0] == pytest.approx(seconds[-1] - seconds[total - len(known)], rel=0.01)


def test_passes_and_sets_in_turn_are_counted() -> None:
    config = get_preset("reference")
    batches = 40  # of 320 images, 8 at a time
    total = config.positive.epochs * -(-320 // config.positive.batch_size) + 3 * config.negative.epochs * batches
    plan = Plan.of(config, 320, total)
    assert plan.positive + plan.negative == pytest.approx(total) and plan.cost == 1
