"""Scores of the positive prompts alone: how well an image fits the best of C classes."""

from __future__ import annotations

from torch import Tensor


def mcm(positive: Tensor, temperature: float = 1.0) -> Tensor:
    """Maximum concept matching: the largest softmax probability over the classes (Ming et al., 2022).

    Args:
        positive: cosines to the positive prompt of each class, shape (N, C), in [-1, 1].
        temperature: softmax temperature τ of Eq. 12; larger is flatter.

    Returns:
        Shape (N,), in [1/C, 1].
    """
    return positive.div(temperature).softmax(dim=-1).amax(dim=-1)


def match_probability(positive: Tensor, temperature: float, bias: float) -> Tensor:
    """The largest probability of a pair, each class on its own: max_c sigmoid(s_c / τ + b) (Zhai et al., 2023).

    Args:
        positive: cosines to the positive prompt of each class, shape (N, C), in [-1, 1].
        temperature: the sigmoid backbone's own τ.
        bias: its own b.

    Returns:
        Shape (N,), in (0, 1). Unlike a softmax it is absolute: another class never lowers it.
    """
    return positive.amax(dim=-1).div(temperature).add(bias).sigmoid()


def max_cosine(positive: Tensor) -> Tensor:
    """The largest cosine to any class (maximum logit, Hendrycks et al., 2022): (N, C) -> (N,), in [-1, 1]."""
    return positive.amax(dim=-1)
