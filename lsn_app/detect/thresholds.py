"""Which threshold gives a verdict: the calibrated one where enough photos promise its rate, else a rule of thumb."""

from __future__ import annotations

import math
from dataclasses import replace

from torch import Tensor

from lsn_core import Detector, Prediction


def promises(detector: Detector, tpr: float) -> bool:
    """Whether the detector was calibrated with enough photos to keep a share `tpr` of known ones."""
    return detector.calibration is not None and math.isfinite(detector.calibration.threshold(tpr))


def predict(detector: Detector, features: Tensor, tpr: float) -> list[Prediction]:
    """Verdicts on features (N, D); by the rule of thumb, and marked as uncalibrated, where nothing is promised."""
    if detector.calibration is not None and not promises(detector, tpr):
        detector = detector.with_fit(detector.fit, detector.score_name)
    return detector.predict_features(features, tpr)


def at_rate(prediction: Prediction, detector: Detector, tpr: float) -> Prediction:
    """The verdict at another wanted rate, without evidence, as `predict` would give it; nothing is read or encoded.

    One with an error stays as it is.
    """
    score = prediction.score
    if score is None:
        return prediction
    if detector.calibration is not None and promises(detector, tpr):
        threshold, p_value = detector.calibration.threshold(tpr), float(detector.calibration.p_values([score])[0])
    else:
        threshold, p_value = detector.uncalibrated_threshold(tpr), None
    return replace(
        prediction,
        verdict="ID" if score >= threshold else "OOD",
        threshold=threshold,
        calibrated=p_value is not None,
        p_value=p_value,
        evidence={},
    )
