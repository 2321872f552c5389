"""The verdict on one image."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Prediction:
    """The verdict on one image and its reasons.

    Attributes:
        verdict: "ID" where score >= threshold (Eq. 1), else "OOD"; None where `error` is set.
        score: the detector's score, higher = more in-distribution.
        threshold: γ; -inf where there are too few calibration images to reject any at the wanted rate.
        calibrated: whether the threshold comes from images of the known classes.
        p_value: share of known images expected to score this low, in (0, 1]; None without calibration.
        predicted_class: the class whose positive prompt fits best.
        positive: class name -> cosine to its positive prompt.
        negative: class name -> cosines to its K negative prompts.
        error: why there is no verdict, as a sentence; None where there is one.
        score_name: the registered score.
        evidence: part of the score (one of `scores.registry.TERMS`) -> how far it lies above (+) or below (-) that of a
            typical image at the threshold; the values add up to score - threshold. Empty without a finite threshold.

    Examples:
        >>> from lsn_core import Detector, load_backbone
        >>> detector = Detector.zero_shot(load_backbone("embedded", "cpu"), ["dog", "cat"])
        >>> (prediction,) = detector.predict(["assets/examples/cat.jpg"])
        >>> prediction.predicted_class, prediction.calibrated, sorted(prediction.positive)
        ('cat', False, ['cat', 'dog'])
    """

    verdict: str | None
    score: float | None
    threshold: float | None
    calibrated: bool
    p_value: float | None
    predicted_class: str | None
    positive: dict[str, float] = field(default_factory=dict)
    negative: dict[str, list[float]] = field(default_factory=dict)
    error: str | None = None
    score_name: str | None = None
    evidence: dict[str, float] = field(default_factory=dict)

    @classmethod
    def failed(cls, error: str | None, calibrated: bool) -> Prediction:
        """No verdict, and why."""
        return cls(None, None, None, calibrated, None, None, error=error)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, which are not copied; an infinite threshold becomes None, which JSON can hold."""
        plain = dict(vars(self))
        if self.threshold is not None and math.isinf(self.threshold):
            plain["threshold"] = None
        return plain
