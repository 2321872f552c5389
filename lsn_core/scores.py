"""OOD scores from cosines to positive and negative prompts; always higher = more in-distribution.

Every score takes `positive` (N, C) and `negative` (N, K, C): cosine similarities of N images to the positive prompt of
each of C classes, and to each of K negative prompts of each class. `SCORES` is the registry by name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from lsn_core.errors import UserError

POSITIVE_TEMPERATURE = 1.0  # τ of Eq. 12 (appendix D.0.2)
NEGATIVE_TEMPERATURE = 5.0  # τ̄ of Eq. 13


def mcm(positive: Tensor, temperature: float = POSITIVE_TEMPERATURE) -> Tensor:
    """Maximum concept matching (Ming et al., 2022): the largest softmax probability over the classes.

    Args:
        positive: cosines, shape (N, C), in [-1, 1].
        temperature: softmax temperature τ; larger is flatter.

    Returns:
        Shape (N,), in [1/C, 1].
    """
    return positive.div(temperature).softmax(dim=-1).amax(dim=-1)


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


def lsn(positive: Tensor, negative: Tensor) -> Tensor:
    """The paper's score (Eq. 14): MCM(τ=1) of the positive prompts minus MinCM(τ̄=5) of the negative ones.

    Returns:
        Shape (N,), in [0, 1): both terms are 1/C for an image that prefers no class.
    """
    return mcm(positive) - min_cm(negative)


def lsn_single_temperature(positive: Tensor, negative: Tensor, temperature: float = POSITIVE_TEMPERATURE) -> Tensor:
    """The same difference with one temperature for both terms (Eq. 9). Shape (N,), in [0, 1)."""
    return mcm(positive, temperature) - min_cm(negative, temperature)


def lsn_reference(positive: Tensor, negative: Tensor) -> Tensor:
    """The form in the authors' published code: MCM plus, averaged over sets, max_c softmax((1 - cosine) / 5).

    Returns:
        Shape (N,), in (1/C, 2].
    """
    refusal = (1.0 - negative).div(NEGATIVE_TEMPERATURE).softmax(dim=-1).amax(dim=-1)  # (N, K)
    return mcm(positive) + refusal.mean(dim=-1)


def negatives_only(positive: Tensor, negative: Tensor) -> Tensor:
    """Minus MinCM: the paper's ablation without positive prompts (Table 4). Shape (N,), in [-1/C, 0)."""
    return -min_cm(negative)


def max_cosine(positive: Tensor) -> Tensor:
    """The largest cosine to any class (maximum logit, Hendrycks et al., 2022). Shape (N,), in [-1, 1]."""
    return positive.amax(dim=-1)


@dataclass(frozen=True)
class Score:
    """A registered score: its function, one line on what it is, and whether it needs negative prompts."""

    function: Callable[..., Tensor]
    about: str
    needs_negatives: bool = True

    def __call__(self, positive: Tensor, negative: Tensor | None) -> Tensor:
        if not self.needs_negatives:
            return self.function(positive)
        if negative is None or negative.shape[1] == 0:
            raise UserError("This score needs negative prompts, and this detector has none. Use 'mcm' instead.")
        return self.function(positive, negative)


SCORES: dict[str, Score] = {
    "lsn": Score(lsn, "MCM minus MinCM, Eq. 14 of the paper"),
    "lsn-eq9": Score(lsn_single_temperature, "MCM minus MinCM at one temperature, Eq. 9"),
    "lsn-reference": Score(lsn_reference, "as in the authors' published code"),
    "negatives-only": Score(negatives_only, "minus MinCM, Eq. 13: no positive prompts"),
    "mcm": Score(mcm, "maximum concept matching: positive prompts only", needs_negatives=False),
    "max-cosine": Score(max_cosine, "largest cosine to a class", needs_negatives=False),
}


def get_score(name: str) -> Score:
    """The registered score of that name; a UserError lists the known ones."""
    if name not in SCORES:
        raise UserError(f"No score is called {name!r}. Known scores: {', '.join(SCORES)}.")
    return SCORES[name]
