"""A bet against "new photos are like the reference": what it has won is the evidence that the world has changed.

Each photo's score is ranked among those of the reference and of all photos before it, equal ones in random order. While
reference and new photos are exchangeable these ranks are independent and uniform, whatever the score and however small
the reference (Vovk, Nouretdinov, Gammerman, "Testing Exchangeability On-Line", ICML 2003). Money that is bet on such
ranks at fair odds is a martingale, so the chance that one unit ever becomes 1/α is at most α (Ville, 1939): no matter
for how long it is watched, and how often somebody looks.

The p-values of verdicts cannot be bet on: they rank all photos among one and the same reference, so they are dependent,
and what is uneven in its draw would be taken for a change sooner or later.
"""

from __future__ import annotations

import math
import random
from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable

from lsn_core.errors import UserError

_MOST = 1e300  # less than is won is still a fair bet, and stays a number


class Evidence:
    """What a bet of one unit has become; at 1/α and above there is an alarm that is false with probability at most α.

    When the world changes, and how, is not known. So the unit is spread over both: 1 / (n (n + 1)) of it is put by for
    a change at photo n, and goes in equal parts to guesses on how: scores are lower in general, a few are very low, or
    scores are higher. The rest waits. (Mixtures of martingales are martingales; a late change costs what was spread
    before, 2 ln n in the logarithm.)

    Args:
        reference: scores of photos that new ones are compared with, at least one, all finite.
        seed: of the ranks of equal scores and of the fraction that makes ranks continuous.

    Attributes:
        capital: what the unit is now, above 0; 1 at first.
        photos: how many came.

    Raises:
        UserError: there is no reference, or one of its scores is not finite.
    """

    def __init__(self, reference: Iterable[float], seed: int = 0) -> None:
        self._scores = array("d", sorted(reference))
        if not self._scores or not all(map(math.isfinite, self._scores)):
            raise UserError("New photos are compared with the scores of others: at least one, and finite numbers.")
        self._random = random.Random(seed)
        self._waiting = 1.0
        self._placed = [0.0, 0.0, 0.0]
        self.photos = 0

    @property
    def capital(self) -> float:
        """What the unit is now."""
        return self._waiting + sum(self._placed)

    def add(self, score: float) -> float:
        """Bets on one photo, whose score joins those that later ones are compared with; returns the capital."""
        rank = self._rank(score)
        self.photos += 1
        moved = self._waiting / (self.photos + 1)
        self._waiting -= moved
        odds = (1.5 - rank, 0.5 / math.sqrt(rank), 0.5 + rank)  # densities on (0, 1]: each has the mean 1
        self._placed = [
            min((old + moved / len(odds)) * won, _MOST) for old, won in zip(self._placed, odds, strict=True)
        ]
        return self.capital

    def _rank(self, score: float) -> float:
        """Smoothed conformal p-value, in (0, 1]: uniform while all scores are exchangeable."""
        below = bisect_left(self._scores, score)
        equal = bisect_right(self._scores, score) - below
        part = 1.0 - self._random.random()
        rank = (below + part * (equal + 1)) / (len(self._scores) + 1)
        insort(self._scores, score)
        return rank
