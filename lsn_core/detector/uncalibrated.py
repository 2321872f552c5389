"""A threshold where no photo of the known classes calibrates one: no error rate is promised."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist

import torch

from lsn_core.detector.prompts import FixedPrompts
from lsn_core.scores.registry import (
    BIAS,
    MEANS,
    NOUNS,
    PHOTOS,
    WHOLE,
    WORLD,
    ScoreInputs,
    Spread,
    Units,
    get_score,
    score_parts,
)

CONVINCED = 9.0  # odds of the best class against the other classes together
AGAINST_NOUNS = 0.5  # odds of the classes against nouns, in those of an image that prefers nothing


def typical_profile(score_name: str, units: Units) -> dict[str, Spread] | None:
    """Means and spreads of a score's parts over known photos, as far as the units of single scores tell.

    A sum's terms are taken as independent. None where a unit is missing.
    """
    score = get_score(score_name)
    if not score.sum_of:
        return dict(units[score_name]) if score_name in units else None
    if any(term not in units for term in score.sum_of):
        return None
    profile: dict[str, Spread] = {}
    for term in score.sum_of:
        whole = max(units[term][WHOLE][1], 1e-12)
        for part, (_, spread) in units[term].items():
            profile[part] = (0.0, math.hypot(profile.get(part, (0.0, 0.0))[1], spread / whole))
    return profile


def normal_threshold(profile: Mapping[str, Spread], tpr: float) -> float:
    """The score that a share `tpr` of known images would reach if their scores were normally distributed."""
    mean, spread = profile[WHOLE]
    return mean - NormalDist().inv_cdf(tpr) * spread


def just_convincing(
    score_name: str,
    classes: int,
    negatives: int,
    nouns: int,
    temperature: float,
    test_unit: float,
    bias: float | None = None,
) -> dict[str, float] | None:
    """The parts of the score of an image that is just convincing.

    To it the model, at its own temperature, gives its best class nine tenths of the probability and the other classes
    the rest in equal parts; it fits no negative prompt. A smaller lead is not taken for a match. Where the classes are
    held against nouns, it is one that half as much speaks for them as for an image that prefers nothing at all: the
    nouns are many, and some of them fit any image. Where each class is judged on its own, by a sigmoid, it is one of
    which the model holds a match for as likely as not.

    Args:
        classes, negatives, nouns: C, K and M.
        temperature, test_unit, bias: as for `ScoreInputs`.

    Returns:
        Part -> value; None for a score of photos, which cannot tell.
    """
    if get_score(score_name).needs & {MEANS, PHOTOS} or get_score(score_name).sum_of:
        return None
    against_nouns = NOUNS in get_score(score_name).needs
    # In one dimension a text feature is its cosine to the image.
    best = torch.zeros(classes, 1)
    if not against_nouns:
        best[0] = temperature * math.log(CONVINCED * max(1, classes - 1))
    if BIAS in get_score(score_name).needs and bias is not None:
        best[0] = -bias * temperature
    prompts = FixedPrompts(best, torch.zeros(max(1, negatives), classes, 1))
    image = torch.ones(1, 1)
    inputs = ScoreInputs(
        image, prompts, lambda: best, temperature, lambda: torch.zeros(nouns, 1), test_unit=test_unit, bias=bias
    )
    parts = {name: float(value) for name, value in score_parts(score_name, inputs, {}).items()}
    return parts | ({WORLD: parts[WORLD] + math.log(AGAINST_NOUNS)} if against_nouns else {})
