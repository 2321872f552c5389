"""Why a score is above or below the threshold: contributions that add up to the distance between the two."""

from __future__ import annotations

import math
from collections.abc import Mapping

from lsn_core.errors import UserError
from lsn_core.scores.registry import WHOLE, Parts, Spread


def evidence(parts: Parts, reference: Mapping[str, float]) -> list[dict[str, float]]:
    """Part of the score -> how far it lies above (+) or below (-) the same part of an image at the threshold.

    Args:
        parts: what adds up to the score of N images, shape (N,) each.
        reference: the same of an image at the threshold, see `at_threshold`; empty where there is no threshold.

    Returns:
        N rows; each row's values add up to score - threshold.

    Raises:
        UserError: the reference is of another score.
    """
    count = len(next(iter(parts.values())))
    if not reference:
        return [{} for _ in range(count)]
    if parts.keys() != reference.keys():
        raise UserError("What the detector was fitted to belongs to another score. Train or calibrate it again.")
    columns = {name: (values.double() - reference[name]).tolist() for name, values in parts.items()}
    return [{name: values[i] for name, values in columns.items()} for i in range(count)]


def at_threshold(profile: Mapping[str, Spread], threshold: float) -> dict[str, float]:
    """The parts of a typical image at the threshold: known images' means, moved in proportion to their spreads.

    Args:
        profile: part -> mean and spread over known images, and the same of the whole score as `WHOLE`.

    Returns:
        Part -> value; they add up to the threshold. Empty for an infinite threshold.
    """
    if not math.isfinite(threshold):
        return {}
    parts = {name: value for name, value in profile.items() if name != WHOLE}
    gap = threshold - sum(mean for mean, _ in parts.values())
    widths = sum(spread for _, spread in parts.values())
    equal = widths <= 0
    return {name: mean + gap * (1 / len(parts) if equal else spread / widths) for name, (mean, spread) in parts.items()}
