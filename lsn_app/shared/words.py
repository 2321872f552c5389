"""What the app says: class lists read, verdicts and error rates put into words and HTML."""

from __future__ import annotations

import math
import re
from html import escape

from lsn_core import Calibration, Prediction, UserError
from lsn_core.backbones.backbone import EMBEDDED, EMBEDDED_NOTE
from lsn_core.detector.detector import check_class_names

MAX_CLASSES = 1000
_LONGEST_LIST = 40_000


def parse_classes(text: str | None) -> tuple[str, ...]:
    """Class names from a text separated by commas, semicolons or line ends; empty entries are dropped.

    Raises:
        UserError: fewer than two names, one given twice, or too many.
    """
    text = text or ""
    if len(text) > _LONGEST_LIST:
        raise UserError(f"The class list has {len(text):,} letters; at most {_LONGEST_LIST:,} are read. Shorten it.")
    names = [name for name in (part.strip() for part in re.split(r"[,;\n]", text)) if name]
    if len(names) > MAX_CLASSES:
        raise UserError(f"The class list has {len(names):,} names; at most {MAX_CLASSES:,} are taken. Shorten it.")
    return check_class_names(names)


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


def percent(rate: float) -> str:
    """0.95 -> '95 %'."""
    return f"{rate * 100:.3g} %"


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


def problem(sentence: str) -> str:
    """A user's mistake as HTML, to be shown by the input it belongs to."""
    return f'<p class="lsn-problem" role="alert"><span aria-hidden="true">⚠</span> {escape(sentence)}</p>'


def note(sentence: str) -> str:
    """A remark as HTML."""
    return f'<p class="lsn-note">{escape(sentence)}</p>'


def backbone_note(name: str) -> str:
    """What has to be said of a backbone wherever it is offered; empty for most."""
    return note(EMBEDDED_NOTE) if name == EMBEDDED else ""


def _card(kind: str, icon: str, title: str, sentences: list[str], mark: str = "") -> str:
    body = "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)
    return (
        f'<section class="lsn-card lsn-{kind}" role="status" aria-live="polite">'
        f'<span class="lsn-icon" aria-hidden="true">{icon}</span>'
        f"<div><h2>{escape(title)} {mark}</h2>{body}</div></section>"
    )
