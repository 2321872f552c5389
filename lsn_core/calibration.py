"""Thresholds and p-values with a guaranteed false alarm rate, from the scores of known in-distribution images.

Split conformal prediction: if a new in-distribution image and the M calibration images are exchangeable, its p-value is
at most α with probability at most α, for any M and any score (Vovk et al., 2005; Bates et al., 2023).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lsn_core.errors import UserError

DEFAULT_TPR = 0.95


class Calibration:
    """Sorted scores of M held-out in-distribution images, none of them trained on.

    Raises:
        UserError: no scores, or a score that is not finite.
    """

    def __init__(self, scores: ArrayLike | Sequence[float]) -> None:
        values = np.sort(np.asarray(scores, dtype=np.float64).reshape(-1))
        if values.size == 0:
            raise UserError("Calibration needs the scores of at least one known image, and there are none.")
        if not np.isfinite(values).all():
            raise UserError("A calibration score is not a finite number: check the images and the detector.")
        self.scores = values

    def __len__(self) -> int:
        return int(self.scores.size)

    def threshold(self, tpr: float = DEFAULT_TPR) -> float:
        """γ of Eq. 1: a new in-distribution image scores at or above it with probability at least `tpr`.

        With M scores it is the k-th smallest, k = floor((M + 1)(1 - tpr)). Where k is 0, M is too small to promise
        `tpr`, and the threshold is -inf: nothing is called OOD.

        Args:
            tpr: wanted true positive rate, in (0, 1).
        """
        k = math.floor((len(self) + 1) * (1.0 - check_tpr(tpr)) + 1e-9)
        return float(self.scores[k - 1]) if k else -math.inf

    def p_values(self, scores: ArrayLike) -> NDArray[np.float64]:
        """(1 + number of calibration scores <= score) / (M + 1), shape (N,), in [1 / (M + 1), 1].

        A score is below `threshold(tpr)` exactly when its p-value is at most 1 - tpr.
        """
        below = np.searchsorted(self.scores, np.asarray(scores, dtype=np.float64), side="right")
        return np.asarray((1.0 + below) / (len(self) + 1.0), dtype=np.float64)

    @staticmethod
    def images_needed(tpr: float = DEFAULT_TPR) -> int:
        """The smallest M that can promise `tpr`: 19 for 0.95."""
        return math.ceil(1.0 / (1.0 - check_tpr(tpr)) - 1.0 - 1e-9)


def check_tpr(tpr: float) -> float:
    """The wanted true positive rate; a UserError unless it lies in (0, 1)."""
    if not 0.0 < tpr < 1.0:
        raise UserError(f"The wanted true positive rate must lie between 0 and 1, not at {tpr}. 0.95 is usual.")
    return tpr
