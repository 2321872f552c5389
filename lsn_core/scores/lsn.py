"""Scores of positive and learned negative prompts: the paper's (Eqs. 9, 13, 14) and the plain difference of cosines.

`positive` (N, C) and `negative` (N, K, C) are cosines of N images to the positive prompt of each of C classes, and to
each of K negative prompts of each class. Temperatures are absolute here; their defaults are the paper's, for a CLIP
whose own temperature is 0.01.
"""

from __future__ import annotations

from torch import Tensor

from lsn_core.scores.matching import mcm

POSITIVE_TEMPERATURE = 1.0  # τ of Eq. 12 (appendix D.0.2)
NEGATIVE_TEMPERATURE = 5.0  # τ̄ of Eq. 13


def min_cm(negative: Tensor, temperature: float = NEGATIVE_TEMPERATURE) -> Tensor:
    """Minimum concept matching over negative prompts (Eq. 13), averaged over the K sets.

    Args:
        negative: cosines, shape (N, K, C), in [-1, 1].
        temperature: softmax temperature τ̄.

    Returns:
        Shape (N,), in (0, 1/C]. Low when the negative prompt of some class is strongly refused, as it should be for
        an image of that class.
    """
    return negative.div(temperature).softmax(dim=-1).amin(dim=-1).mean(dim=-1)


def lsn(
    positive: Tensor,
    negative: Tensor,
    temperature: float = POSITIVE_TEMPERATURE,
    negative_temperature: float = NEGATIVE_TEMPERATURE,
) -> Tensor:
    """The paper's score (Eq. 14): MCM(τ=1) of the positive prompts minus MinCM(τ̄=5) of the negative ones.

    Returns:
        Shape (N,), in [0, 1): both terms are 1/C for an image that prefers no class.
    """
    return mcm(positive, temperature) - min_cm(negative, negative_temperature)


def lsn_single_temperature(positive: Tensor, negative: Tensor, temperature: float = POSITIVE_TEMPERATURE) -> Tensor:
    """The same difference with one temperature for both terms (Eq. 9). Shape (N,), in [0, 1)."""
    return lsn(positive, negative, temperature, temperature)


def max_refusal(negative: Tensor, temperature: float = NEGATIVE_TEMPERATURE) -> Tensor:
    """max_c softmax((1 - cosine) / τ̄) of the authors' code, the mean of K sets: (N, K, C) -> (N,), in [1/C, 1]."""
    return (1.0 - negative).div(temperature).softmax(dim=-1).amax(dim=-1).mean(dim=-1)


def lsn_reference(
    positive: Tensor,
    negative: Tensor,
    temperature: float = POSITIVE_TEMPERATURE,
    negative_temperature: float = NEGATIVE_TEMPERATURE,
) -> Tensor:
    """The form in the authors' published code: MCM plus `max_refusal`. Shape (N,), in (1/C, 2]."""
    return mcm(positive, temperature) + max_refusal(negative, negative_temperature)


def negatives_only(negative: Tensor, temperature: float = NEGATIVE_TEMPERATURE) -> Tensor:
    """Minus MinCM: no positive prompts (Table 4). (N, K, C) -> (N,), in [-1/C, 0)."""
    return -min_cm(negative, temperature)


def difference(positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
    """max_c (p_c - mean_k n_kc): the class that is most affirmed and least denied, without a softmax.

    A softmax at the paper's τ̄ = 5 is nearly flat, so that Eq. 14 hardly hears the negatives; cosines are heard alike.

    Returns:
        What adds up to it: p_c and -mean_k n_kc of the best class, shape (N,) each, in [-1, 1].
    """
    denied = negative.mean(dim=1)  # (N, C)
    best = (positive - denied).argmax(dim=-1, keepdim=True)
    return positive.gather(1, best)[:, 0], -denied.gather(1, best)[:, 0]
