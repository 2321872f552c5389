"""Labelled image features, checked and drawn into what is trained on and what calibrates."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor

from lsn_core.data.sampling import draw, split
from lsn_core.errors import UserError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shots:
    """Image features of C classes.

    Attributes:
        features: to train on, fp32, shape (N, D), unit length.
        labels: int64, shape (N,).
        held_out: to calibrate with, shape (M, D); M may be 0.
        held_out_labels: int64, shape (M,).
    """

    features: Tensor
    labels: Tensor
    held_out: Tensor
    held_out_labels: Tensor

    def digest(self) -> str:
        """SHA-256 (hex) of the training part."""
        parts = (self.features.numpy().tobytes(), self.labels.numpy().tobytes())
        return hashlib.sha256(b"".join(parts)).hexdigest()


def draw_shots(
    features: Tensor | np.ndarray,
    labels: ArrayLike | Tensor,
    class_names: Sequence[str],
    dim: int,
    shots: int | None,
    calibration_share: float,
    seed: int,
) -> Shots:
    """At most `shots` images of each class, by seed, a share of them held out in proportion.

    Each class keeps at least one image to train on, so with one image per class nothing is held out.

    Args:
        features: image features, shape (N, D), finite and not zero.
        labels: class indices, shape (N,).
        dim: D of the backbone.

    Raises:
        UserError: shapes, labels or values are wrong, or a class has no image.
    """
    x = torch.as_tensor(features).detach().cpu()
    if x.ndim != 2 or x.shape[1] != dim or not x.is_floating_point():
        raise UserError(f"Image features must be numbers of shape (N, {dim}), not {x.dtype} of {tuple(x.shape)}.")
    y = np.asarray(labels.cpu() if isinstance(labels, Tensor) else labels)
    if y.shape != (len(x),):
        raise UserError(f"There are {len(x)} images and labels of shape {y.shape}. Give one label for each image.")
    if y.size and not np.issubdtype(y.dtype, np.integer):
        raise UserError(f"Labels must be whole numbers, the indices of classes, not {y.dtype}.")
    if y.size and (y.min() < 0 or y.max() >= len(class_names)):
        wrong = int(y.min()) if y.min() < 0 else int(y.max())
        raise UserError(
            f"The label {wrong} stands for no class: with {len(class_names)} classes, labels are 0 to "
            f"{len(class_names) - 1}."
        )
    x = x.float()
    broken = int((~x.isfinite().all(dim=1) | (x == 0).all(dim=1)).sum())
    if broken:
        raise UserError(f"The features of {broken} of {len(x)} images are not finite, or all zero. Leave them out.")
    counts = np.bincount(y.astype(np.int64), minlength=len(class_names))
    empty = [name for name, count in zip(class_names, counts, strict=True) if not count]
    if empty:
        more = f" and {len(empty) - 3} more classes" if len(empty) > 3 else ""
        raise UserError(f"There are no images of {', '.join(map(repr, empty[:3]))}{more}. Add some, or leave it out.")
    chosen = draw(y, class_names, shots, seed)
    train, held = split(y[chosen], calibration_share, seed)
    if calibration_share and not len(held):
        log.warning("There are too few images to hold any out, so the detector will not be calibrated.")
    x = F.normalize(x[torch.from_numpy(chosen)], dim=-1)
    targets = torch.from_numpy(y[chosen].astype(np.int64))
    return Shots(x[train], targets[train], x[held], targets[held])
