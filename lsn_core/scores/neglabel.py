"""NegLabel: the known classes against everything else that has a name (Jiang et al., 2024)."""

from __future__ import annotations

from torch import Tensor


def log_mass(cosines: Tensor, temperature: float) -> Tensor:
    """Log of the unnormalised softmax mass of a group of texts: cosines (N, C) -> (N,).

    NegLabel's share of the known classes in a softmax over classes and negative labels is the sigmoid of the classes'
    log mass less the negative labels'. That difference, the log odds, is the score here: it ranks images as the share
    does and tells them apart near 0 and 1, too. All labels stand in one group and none are mined: with hidden known
    classes both served at least as well.

    Args:
        cosines: to the texts, in [-1, 1].
        temperature: of the softmax; the model's own.
    """
    return cosines.div(temperature).logsumexp(dim=-1)
