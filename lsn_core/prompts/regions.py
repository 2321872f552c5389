"""A "no" without training and without a text: a region of the space that texts and images share."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

ANCHOR = "a photo"


def region_without(anchor: Tensor, texts: Tensor) -> Tensor:
    """The middle of the region that is near an anchor and far from a text: "a photo, but not of a dog".

    After SpaceVLM (Ranjbar, Alhamoud and Ghassemi 2025, arXiv:2511.12331), which takes a negation for the region inside
    a spherical cap around what is affirmed and outside of one around what is denied, and scores by its central
    direction. Where the two are at an angle of φ, and both caps reach φ far, the region in their plane begins at the
    anchor and ends 2 φ from the text, so its middle lies 1.5 φ from the text. How far the caps reach is our choice: it
    needs no tuning.

    Args:
        anchor: feature of what is affirmed, shape (D,), unit length.
        texts: features of what is denied, shape (..., D), unit length.

    Returns:
        Shape (..., D), unit length.
    """
    angle = (texts @ anchor).clamp(-1.0, 1.0).arccos()[..., None]  # (..., 1)
    away = F.normalize(anchor - angle.cos() * texts, dim=-1)  # of the text, in the plane of the two
    return F.normalize((1.5 * angle).cos() * texts + (1.5 * angle).sin() * away, dim=-1)
