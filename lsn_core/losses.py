"""The training objectives of LSN, Eqs. 3-8 of the paper, as pure functions of cosines and text features.

Two choices cover the paper as printed and the authors' published code, which differ:

- `loss_on`: "logits" is -log p of Eqs. 4 and 5. "probabilities" is what the code computes: cross-entropy of p itself,
  as if it were logits (a double softmax, with a bounded loss and smaller gradients).
- `reg`: "sum_abs" is Eq. 7. "mean_signed" is what the code computes: the mean over classes and other sets of the signed
  cosine, the other sets held fixed.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

LossOn = Literal["logits", "probabilities"]
Regulariser = Literal["sum_abs", "mean_signed"]


def positive_loss(cosines: Tensor, labels: Tensor, temperature: float = 0.01, loss_on: LossOn = "logits") -> Tensor:
    """Eqs. 3 and 4: cross-entropy of softmax(cosine / τ), the mean over images and sets.

    Args:
        cosines: to the positive prompts, shape (N, K, C), in [-1, 1]; K is 1 but for multiple positive prompts, each of
            which has a cross-entropy of its own.
        labels: class indices, shape (N,).
        temperature: τ.

    Returns:
        A scalar, at least 0.
    """
    return _cross_entropy(cosines / temperature, labels, loss_on)


def negative_loss(cosines: Tensor, labels: Tensor, temperature: float = 0.05, loss_on: LossOn = "logits") -> Tensor:
    """Eqs. 5 and 6: cross-entropy of softmax((1 - cosine) / τ), the mean over images and over the K sets.

    The constant 1/τ of Eq. 6 cancels inside the softmax and is left out.

    Args:
        cosines: to the negative prompts, shape (N, K, C), in [-1, 1].
        labels: class indices, shape (N,): the class whose negative prompt should match least.
        temperature: τ.

    Returns:
        A scalar, at least 0.
    """
    return _cross_entropy(-cosines / temperature, labels, loss_on)


def orthogonality(features: Tensor, reg: Regulariser = "sum_abs") -> Tensor:
    """Eq. 7, the semantic orthogonality loss, or the authors' form of it.

    Args:
        features: text features of K negative prompts of each class, shape (..., K, C, D), unit length; leading
            dimensions (one for each image, in CoCoOp) are averaged over.
        reg: "sum_abs": the sum over classes and pairs of sets of |cosine|. "mean_signed": the mean over sets, classes
            and other sets of the cosine, no gradient flowing into the other set.

    Returns:
        A scalar; 0 for K < 2.
    """
    sets = features.shape[-3]
    if sets < 2:
        return features.new_zeros(())
    if reg == "sum_abs":
        cosines = torch.einsum("...icd,...jcd->...cij", features, features)  # (..., C, K, K)
        above = torch.ones(sets, sets, dtype=torch.bool, device=features.device).triu(1)
        return cosines.abs().masked_fill(~above, 0.0).sum(dim=(-3, -2, -1)).mean()
    cosines = torch.einsum("...icd,...jcd->...cij", features, features.detach())
    same = torch.eye(sets, dtype=torch.bool, device=features.device)
    return cosines.masked_fill(same, 0.0).sum(dim=-1).div(sets - 1).mean()


def set_orthogonality(own: Tensor, others: Tensor, reg: Regulariser = "sum_abs") -> Tensor:
    """The share of one set in `orthogonality`, for sets trained in turn.

    Args:
        own: text features of the set being trained, shape (C, D), unit length.
        others: those of the K - 1 other sets, shape (K - 1, C, D); held fixed.

    Returns:
        A scalar: the sum ("sum_abs") or the mean ("mean_signed") over classes and other sets; 0 without others.
    """
    if len(others) == 0:
        return own.new_zeros(())
    cosines = torch.einsum("cd,jcd->cj", own, others.detach())
    return cosines.abs().sum() if reg == "sum_abs" else cosines.mean()


def _cross_entropy(logits: Tensor, labels: Tensor, loss_on: LossOn) -> Tensor:
    if loss_on == "probabilities":
        logits = logits.softmax(dim=-1)
    targets = labels[:, None].expand(logits.shape[:2])  # (N, K)
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())
