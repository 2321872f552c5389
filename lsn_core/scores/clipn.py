"""CLIPN's two rules (Wang et al., 2023), for written or learned negative prompts.

CLIPN fine-tunes a second text encoder on CC3M for its negative prompts, which is not done here: only its rules are.
"""

from __future__ import annotations

from torch import Tensor


def denial(positive: Tensor, negative: Tensor, temperature: float) -> Tensor:
    """Each class's "no": its share in the softmax over the pair of its two prompts, averaged over the K sets.

    Args:
        positive: cosines, shape (N, C).
        negative: cosines, shape (N, K, C).
        temperature: of the softmax; CLIPN takes the model's own.

    Returns:
        Shape (N, C), in [0, 1].
    """
    return ((negative - positive[:, None]) / temperature).sigmoid().mean(dim=1)


def competing_to_win(positive: Tensor, negative: Tensor, temperature: float) -> Tensor:
    """CTW: how little the best class is denied. Shape (N,), in [0, 1]."""
    best = positive.argmax(dim=-1, keepdim=True)
    return 1 - denial(positive, negative, temperature).gather(1, best)[:, 0]


def agreeing_to_differ(positive: Tensor, negative: Tensor, temperature: float) -> Tensor:
    """ATD: the probability left to the known classes when each is denied by its "no". Shape (N,), in [0, 1]."""
    yes = positive.div(temperature).softmax(dim=-1)
    return ((1 - denial(positive, negative, temperature)) * yes).sum(dim=-1)
