"""How long training still takes: steps on negative prompts cost more than those on positive ones, which come first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lsn_core.jobs.job import Point
from lsn_core.training.config import TrainConfig

_ENOUGH = 0.03  # share of the work
_ENOUGH_STEPS = 10


@dataclass(frozen=True)
class Plan:
    """The steps of a run: positive ones and then negative ones, and the same again for each fold.

    Attributes:
        positive, negative: steps of each kind before they begin anew.
        cost: of a negative step, where a positive one costs 1: the prompt sets that go through the text tower.
    """

    positive: float
    negative: float
    cost: float

    @classmethod
    def of(cls, config: TrainConfig, images: int, total: int) -> Plan:
        """The plan of a run of so many steps on about so many training images."""
        steps = []
        for settings in (config.positive, config.negative):
            batches = -(-max(1, images) // settings.batch_size)
            steps.append((settings.updates or settings.epochs * batches) if settings.sets else 0)
        in_turn = config.negative.sets if config.sets_in_turn else 1
        steps[1] *= in_turn
        rounds = max(1, round(total / max(1, sum(steps))))  # the run itself and its folds
        scale = total / (rounds * max(1, sum(steps)))
        cost = config.negative.sets / (max(1, config.positive.sets) * in_turn)
        return cls(steps[0] * scale, steps[1] * scale, cost)

    def measured(self, points: Sequence[Point]) -> Plan:
        """With the cost that negative steps really have, once there were some; no more than was thought."""
        positive = [point for point in points if point.step <= self.positive]
        both = [point for point in points if point.step <= self.positive + self.negative]
        if len(positive) < 2 or both[-1].step < self.positive + _ENOUGH_STEPS:
            return self
        turn = positive[-1]
        one = (turn.seconds - positive[0].seconds) / (turn.step - positive[0].step)
        other = (both[-1].seconds - turn.seconds) / (both[-1].step - turn.step)
        return replace(self, cost=min(self.cost, other / one)) if one > 0 else self

    def work(self, step: int) -> float:
        """What the first steps cost, in positive steps."""
        rounds, rest = divmod(step, self.positive + self.negative)
        whole = rounds * (self.positive + self.negative * self.cost)
        return whole + min(rest, self.positive) + max(0.0, rest - self.positive) * self.cost


def seconds_left(points: Sequence[Point], total: int, plan: Plan) -> float | None:
    """How long the steps that are left take, at the pace of those since the run began or went on.

    None while that is not known: the first steps of a run say little.
    """
    if len(points) < 2:
        return None
    plan = plan.measured(points)
    first, last, all_work = points[0], points[-1], plan.work(total)
    done = plan.work(last.step) - plan.work(first.step)
    if done < _ENOUGH * all_work:
        return None
    pace = (last.seconds - first.seconds) / done
    return max(0.0, pace * (all_work - plan.work(last.step)))
