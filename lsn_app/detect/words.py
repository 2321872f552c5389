"""What the Detect tab says of a verdict, as HTML: the verdict, how far to trust it, and reasons that add up to it."""

from __future__ import annotations

import math
from html import escape

from lsn_app.detect.answer import Answer
from lsn_app.shared.words import note, percent, signed
from lsn_core import Prediction
from lsn_core.calibration import Calibration
from lsn_core.scores.registry import MATCH, NO, PHOTO, WORLD

# Part of a score -> what it says for a known class, and against it: where it decides, and where the others outweigh it.
_TERMS = {
    MATCH: ("Fits “{}”", "Fits “{}” too little", "Fits “{}” only loosely"),
    NO: ("The learned “no” does not object", "The learned “no” objects", "The learned “no” objects, but too little"),
    WORLD: ("Resembles little else", "Resembles other things more", "Resembles other things, too"),
    PHOTO: ("Near the training photos", "Far from the training photos", "Not very near the training photos"),
}
_WORTH_A_WORD = 0.1  # of the part that weighs most
_YET = {
    MATCH: "if only loosely",
    NO: "although its “no” objects",
    WORLD: "although it resembles other things, too",
    PHOTO: "although it is far from the training photos",
}
_WRITTEN_NO = (
    "The written “not” does not object",
    "The written “not” objects",
    "The written “not” objects, but too little",
)


def headline(prediction: Prediction) -> str:
    """The verdict in a few words."""
    if prediction.verdict == "ID":
        return f"Known: {prediction.predicted_class}"
    count = len(prediction.positive)
    return f"Not “{prediction.predicted_class}”" if count == 1 else f"None of these {count:,} classes"


def trust_words(answer: Answer) -> str:
    """How far the threshold can be trusted, as a sentence."""
    prediction, calibration = answer.prediction, answer.detector.calibration
    if calibration is not None and prediction.calibrated:
        return f"Keeps at least {percent(answer.tpr)} of known photos."
    if calibration is not None:
        return (
            f"{len(calibration)} calibration photo{'' if len(calibration) == 1 else 's'} cannot promise "
            f"{percent(answer.tpr)}: {Calibration.images_needed(answer.tpr)} are needed."
        )
    return "No error rate is known, until photos of the classes calibrate the threshold."


def verdict_card(answer: Answer) -> str:
    """The verdict as an HTML card: colour, icon and words say the same."""
    prediction = answer.prediction
    known = prediction.verdict == "ID"
    tag = "" if prediction.calibrated else '<span class="lsn-tag">rule of thumb</span>'
    single = len(prediction.positive) == 1
    closest = "" if known or single else f"<p>Closest: {escape(str(prediction.predicted_class))}</p>"
    return _card(
        "known" if known else "unknown",
        "✓" if known else "✕",
        f"{escape(headline(prediction))} {tag}",
        f'{closest}<p class="lsn-trust">{escape(trust_words(answer))}</p>',
        str(prediction.verdict),
        prediction.calibrated,
    )


def empty_card() -> str:
    """What stands where the verdict will be, before there is a photo."""
    return _card("empty", "?", "No photo yet", "<p>Drop a photo here, or click one of the examples.</p>")


def failed_card() -> str:
    """What stands where the verdict was, when something asked for cannot be done."""
    return _card("empty", "!", "No verdict", "<p>Something needs to be put right first: see the message.</p>")


def baseline_card(answer: Answer) -> str:
    """What hand-written MCM says of the same photo, as HTML; empty where it is not asked."""
    if answer.baseline is None:
        return ""
    known = answer.baseline.verdict == "ID"
    same = (answer.baseline.verdict, known and answer.baseline.predicted_class) == (
        answer.prediction.verdict,
        known and answer.prediction.predicted_class,
    )
    kind, icon = ("known", "✓") if known else ("unknown", "✕")
    mark = f'<span class="lsn-mark lsn-mark-{kind}" aria-hidden="true">{icon}</span>'
    learned = answer.detector.config.get("method") != "zero-shot"
    who = "Hand-written MCM" if learned else "The usual MCM score"
    verdict = "the same" if same else f"{mark} {escape(headline(answer.baseline))}"
    return f'<p class="lsn-baseline">{who}: <b>{verdict}</b></p>'


def reasons(answer: Answer) -> str:
    """Why: a sentence, and the parts of the score, which add up to its distance from the threshold, as HTML."""
    prediction = answer.prediction
    if not prediction.evidence or prediction.score is None or prediction.threshold is None:
        return ""
    return f'<div class="lsn-why"><h3>Why</h3><p>{escape(sentence(answer))}</p>{waterfall(answer)}</div>'


def sentence(answer: Answer) -> str:
    """Why, in one or two plain sentences that the verdict bears out."""
    prediction = answer.prediction
    name, many = prediction.predicted_class, len(prediction.positive) > 1
    weakest = min(prediction.evidence, key=lambda term: prediction.evidence[term])
    against = prediction.evidence[weakest] < -_WORTH_A_WORD * max(prediction.evidence.values())
    if prediction.verdict == "ID":
        parts = [f"It fits “{name}”" + (" better than the other classes" if many else "")]
        if against:
            parts[0] += f", {_YET[weakest]}"
        parts[0] += "."
        if prediction.p_value is not None and prediction.p_value > 0.5:
            parts.append("It scores above most known photos.")
        return " ".join(parts)
    if answer.resembles and weakest == WORLD:
        first = f"It looks more like {_listed(answer.resembles)} than like {'any of the classes' if many else name}."
    elif weakest == NO:
        fits = prediction.evidence.get(MATCH, -1.0) > 0
        first = f"It fits “{name}” at first" if fits else f"Not even “{name}” fits"
        first += ", but its “no” objects." if fits else ": its “no” objects, too."
    elif weakest == PHOTO:
        first = f"“{name}” is the closest class, but the photo is far from those of the training."
    else:
        first = f"“{name}” is the closest class, but fits too little."
    if prediction.p_value is None:
        return first
    return f"{first} {_rare(prediction.p_value)}"


def waterfall(answer: Answer) -> str:
    """The parts of the score one after the other, from the threshold to the score, as an HTML list of bars."""
    prediction = answer.prediction
    written = answer.detector.config.get("method") == "zero-shot"
    steps, position = [], 0.0
    for term, value in prediction.evidence.items():
        titles = _WRITTEN_NO if term == NO and written else _TERMS[term]
        against = 2 if prediction.verdict == "ID" else 1
        title = titles[against if value < 0 else 0].format(prediction.predicted_class)
        steps.append((title, position, position + value, value, ""))
        position += value
    side = "above" if prediction.verdict == "ID" else "below"
    steps.append((f"Together: {side} the threshold", 0.0, position, position, " lsn-total"))
    low, high = min(0.0, *(min(a, b) for _, a, b, _, _ in steps)), max(0.0, *(max(a, b) for _, a, b, _, _ in steps))
    width, amounts = (high - low) or 1.0, [value for *_, value, _ in steps]
    rows = "".join(
        f'<li class="lsn-step{kind}"><span>{escape(title)}</span><span class="lsn-track" aria-hidden="true">'
        f'<i class="{"for" if value >= 0 else "against"}" style="left:{100 * (min(a, b) - low) / width:.2f}%;'
        f'width:{100 * abs(b - a) / width:.2f}%"></i></span><span class="lsn-amount">{signed(value, amounts)}</span>'
        "</li>"
        for title, a, b, value, kind in steps
    )
    axis = '<li class="lsn-step lsn-axis" aria-hidden="true"><span></span><span><b>threshold</b></span></li>'
    return f'<ul class="lsn-waterfall" style="--threshold:{-100 * low / width:.2f}%">{axis}{rows}</ul>'


def dropped_note(count: int) -> str:
    """That a calibration no longer holds, as HTML."""
    return note(
        f"The calibration with your {count} photo{'' if count == 1 else 's'} was for the classes, detector and CLIP "
        "model chosen before, so it is gone. Add photos for what is chosen now."
    )


def _rare(p_value: float) -> str:
    hundredth = p_value * 100
    whole = round(hundredth)
    if whole >= 1 and abs(hundredth - whole) < 1e-9:
        return f"At most {whole} in 100 known photos score this low."
    return f"Fewer than {math.ceil(hundredth)} in 100 known photos score this low."


def _listed(names: tuple[str, ...]) -> str:
    quoted = [f"“{name}”" for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"


def _card(kind: str, icon: str, title: str, body: str, verdict: str = "none", calibrated: bool = False) -> str:
    return (
        f'<section id="lsn-verdict" class="lsn-card lsn-{kind}" role="status" aria-live="polite" '
        f'data-verdict="{verdict}" data-calibrated="{str(calibrated).lower()}">'
        f'<span class="lsn-icon" aria-hidden="true">{icon}</span><div><h2>{title}</h2>{body}</div></section>'
    )
