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
    return _at(detector, tpr).predict_features(features, tpr)


def at_rate(prediction: Prediction, detector: Detector, tpr: float) -> Prediction:
    """One of the predictions of `predict` at another wanted rate; nothing is read or encoded for it."""
    if prediction.score is None:
        return prediction
    calibration = detector.calibration if promises(detector, tpr) else None
    p_value = None if calibration is None else float(calibration.p_values([prediction.score])[0])
    moved = _at(detector, tpr).reconsider(prediction, tpr)
    return replace(moved, calibrated=calibration is not None, p_value=p_value)


def _at(detector: Detector, tpr: float) -> Detector:
    if detector.calibration is None or promises(detector, tpr):
        return detector
    return detector.with_fit(detector.fit, detector.score_name)
