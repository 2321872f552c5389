"""What the Detect tab says of a verdict, as HTML."""

from __future__ import annotations

import math

from lsn_app.shared.words import _card, percent
from lsn_core import Prediction
from lsn_core.calibration import Calibration


def p_value_words(p_value: float) -> str:
    """The p-value as a sentence about known images, with the number beside it."""
    hundredth = p_value * 100
    number = f"p = {p_value:.3f}" if p_value < 0.1 else f"p = {p_value:.2f}"
    if p_value > 0.5:
        return f"More than half of known images score this low or lower: nothing unusual ({number})."
    whole = round(hundredth)
    if abs(hundredth - whole) < 1e-9:
        return f"At most {whole} in 100 known images score this low ({number})."
    return f"Fewer than {math.ceil(hundredth)} in 100 known images score this low ({number})."


def headline(prediction: Prediction) -> str:
    """The verdict in a few words."""
    if prediction.verdict == "ID":
        return f"Known: {prediction.predicted_class}"
    return f"Not one of these classes (closest: {prediction.predicted_class})"


def score_words(prediction: Prediction) -> str:
    """The score against the threshold as a sentence."""
    if prediction.score is None or prediction.threshold is None:
        raise ValueError("a prediction with an error has no score to put into words")
    if math.isinf(prediction.threshold):
        return f"Score {prediction.score:.4f}; there is no threshold yet, so every photo passes."
    relation = "at or above" if prediction.verdict == "ID" else "below"
    return f"Score {prediction.score:.4f} is {relation} the threshold {prediction.threshold:.4f}."


def trust_words(prediction: Prediction, tpr: float, count: int) -> str:
    """How far the threshold can be trusted.

    Args:
        tpr: wanted true positive rate.
        count: number of calibration images.
    """
    if not prediction.calibrated or prediction.p_value is None:
        return (
            "The threshold is uncalibrated: a rule of thumb without a known error rate, so take the verdict as a hint. "
            "To get a threshold with a known error rate, add photos of your classes under “Calibrate” below."
        )
    sentence = p_value_words(prediction.p_value)
    needed = Calibration.images_needed(tpr)
    if count < needed:
        return (
            f"{sentence} {count} calibration {'photo is' if count == 1 else 'photos are'} too few to promise that "
            f"{percent(tpr)} of known photos are kept: {needed} are needed."
        )
    return f"{sentence} The threshold, set from {count} photos, keeps at least {percent(tpr)} of known photos."


def verdict_card(prediction: Prediction, tpr: float, count: int) -> str:
    """The verdict as an HTML card: colour, icon and words say the same.

    Args:
        tpr: wanted true positive rate.
        count: number of calibration images.
    """
    known = prediction.verdict == "ID"
    tag = "" if prediction.calibrated else "uncalibrated"
    if prediction.threshold is not None and math.isinf(prediction.threshold):
        tag = "no threshold yet"
    mark = f'<span class="lsn-tag">{tag}</span>' if tag else ""
    return _card(
        "known" if known else "unknown",
        "✓" if known else "✕",
        headline(prediction),
        [score_words(prediction), trust_words(prediction, tpr, count)],
        mark,
    )


def empty_card() -> str:
    """What stands where the verdict will be, before there is a photo."""
    return _card("empty", "?", "No photo yet", ["Drop a photo on the left, or click one of the examples."])


def failed_card() -> str:
    """What stands where the verdict was, when something asked for cannot be done."""
    return _card("empty", "!", "No verdict", ["Something needs to be put right first: see the message by the input."])
