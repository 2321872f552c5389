"""The bet against "nothing has changed": its sums written out, its rate of false alarms, and changes that it finds."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from scipy.integrate import quad

from lsn_core import UserError
from lsn_core.calibration import Calibration
from lsn_core.monitoring.evidence import Evidence

ODDS: tuple[Callable[[float], float], ...] = (lambda u: 1.5 - u, lambda u: 0.5 / math.sqrt(u), lambda u: 0.5 + u)


def ranks(reference: Sequence[float], stream: Sequence[float], seed: int) -> list[float]:
    """Each score's place among all before it, counted one by one."""
    chance, before, found = random.Random(seed), list(reference), []
    for score in stream:
        part = 1 - chance.random()
        less, equal = sum(other < score for other in before), 1 + sum(other == score for other in before)
        found.append((less + part * equal) / (len(before) + 1))
        before.append(score)
    return found


def capitals(places: Sequence[float]) -> list[float]:
    """The bet on each beginning n and each guess on its own, 1 / (n (n + 1)) in equal parts, and the rest unbet."""
    found = []
    for now in range(1, len(places) + 1):
        begun = [
            math.prod(odds(u) for u in places[n - 1 : now]) / (n * (n + 1)) / len(ODDS)
            for n in range(1, now + 1)
            for odds in ODDS
        ]
        found.append(sum(begun) + 1 / (now + 1))
    return found


def test_odds_are_fair() -> None:
    for odds in ODDS:
        assert quad(odds, 0, 1)[0] == pytest.approx(1)


@pytest.mark.parametrize("seed", [0, 7])
def test_the_capital_is_the_sum_of_all_bets(seed: int) -> None:
    chance = np.random.default_rng(seed)
    reference, stream = chance.normal(size=9).round(1).tolist(), chance.normal(-1, 1, size=40).round(1).tolist()
    evidence = Evidence(reference, seed)
    expected = capitals(ranks(reference, stream, seed))
    assert [evidence.add(score) for score in stream] == pytest.approx(expected, rel=1e-9)
    assert evidence.capital == pytest.approx(expected[-1]) and evidence.photos == 40


@pytest.mark.parametrize(("size", "decimals"), [(1, 9), (30, 9), (30, 0)])  # 0 decimals: most scores have an equal
def test_false_alarms_are_as_rare_as_is_said(size: int, decimals: int) -> None:
    streams, length, alpha, alarms = 400, 300, 0.1, 0
    for seed in range(streams):
        chance = np.random.default_rng(seed)
        reference, *stream = np.split(chance.normal(size=size + length).round(decimals), range(size, size + length))
        evidence = Evidence(reference.tolist(), seed)
        alarms += any(evidence.add(float(score)) >= 1 / alpha for score in np.concatenate(stream))
    spread = math.sqrt(alpha * (1 - alpha) / streams)
    assert alpha / 10 < alarms / streams < alpha + 3 * spread


def test_bets_on_the_p_values_of_verdicts_would_ring_too_often() -> None:
    """Why photos before join the reference: 30 photos' draw is uneven, and a thousand new ones tell."""
    alpha, alarms = 0.1, 0
    for seed in range(60):
        chance = np.random.default_rng(seed)
        places = Calibration(chance.normal(size=30)).p_values(chance.normal(size=1000))
        placed, waiting, rang = [0.0, 0.0, 0.0], 1.0, False
        for n, u in enumerate(places.tolist(), 1):
            moved = waiting / (n + 1)
            waiting -= moved
            placed = [(old + moved / 3) * odds(u) for old, odds in zip(placed, ODDS, strict=True)]
            rang |= waiting + sum(placed) >= 1 / alpha
        alarms += rang
    assert alarms / 60 > 3 * alpha


@pytest.mark.parametrize(
    ("changed", "within"),
    [
        (lambda chance: chance.normal(-5, 1) if chance.random() < 0.2 else chance.normal(), 250),
        (lambda chance: chance.normal(-1, 1), 150),
        (lambda chance: chance.normal(1, 1), 250),
        (lambda chance: chance.normal(-5, 1), 25),
    ],
    ids=["a fifth unknown", "lower", "higher", "all unknown"],
)
def test_a_change_after_a_thousand_photos_is_found(
    changed: Callable[[np.random.Generator], float], within: int
) -> None:
    found = 0
    for seed in range(10):
        chance = np.random.default_rng(seed)
        evidence = Evidence(chance.normal(size=256).tolist())
        before = [evidence.add(score) for score in chance.normal(size=1000).tolist()]
        assert max(before) < 100
        found += any(evidence.add(changed(chance)) >= 100 for _ in range(within))
    assert found >= 9


def test_a_long_stream_stays_a_number() -> None:
    evidence = Evidence([0.0])
    assert all(0 < evidence.add(-float(n)) < math.inf for n in range(20_000))


@pytest.mark.parametrize("reference", [[], [1.0, math.nan], [math.inf]])
def test_a_reference_is_needed(reference: list[float]) -> None:
    with pytest.raises(UserError, match="at least one"):
        Evidence(reference)
