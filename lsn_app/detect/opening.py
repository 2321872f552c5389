"""What the page opens with: the shipped detector that serves best, and a photo on which learning makes a difference."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from lsn_app.detect.answer import Answer, DetectRequest, ask
from lsn_app.serving.photos import read_photo
from lsn_app.serving.requests import ZERO_SHOT, DetectorRequest, Problem
from lsn_app.serving.store import Store
from lsn_app.shared.examples import Example
from lsn_core import Prediction
from lsn_core.class_names import fold_name

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Opening:
    """What the page opens with.

    Attributes:
        label: of the detector.
        example: the photo.
        answer: the detector's.
    """

    label: str
    example: Example
    answer: Answer


def choose_opening(store: Store, examples: Sequence[Example]) -> Opening | None:
    """The shipped detector that is right about most examples, and one of which it is right and hand-written MCM wrong.

    None where nothing is shipped or nothing works.
    """
    best: tuple[int, Opening] | None = None
    for label in store.detectors:
        try:
            openings = [Opening(label, example, _answer(store, label, example)) for example in examples]
        except Problem as problem:
            log.warning("the shipped detector %s cannot be used: %s", label, problem)
            continue
        right = [one for one in openings if is_right(one.answer.prediction, one.example)]
        telling = [one for one in right if one.answer.baseline and not is_right(one.answer.baseline, one.example)]
        telling.sort(key=lambda one: one.answer.prediction.verdict == "ID")  # a "no" tells most
        chosen = next(iter([*telling, *right, *openings]), None)
        if chosen is not None and (best is None or len(right) > best[0]):
            best = len(right), chosen
    return best[1] if best else None


def is_right(prediction: Prediction, example: Example) -> bool:
    """Whether a verdict is right about an example photo."""
    if fold_name(example.label) in map(fold_name, prediction.positive):
        return prediction.verdict == "ID" and fold_name(str(prediction.predicted_class)) == fold_name(example.label)
    return prediction.verdict == "OOD"


def _answer(store: Store, label: str, example: Example) -> Answer:
    assert label != ZERO_SHOT
    photo = read_photo(str(example.path), example.path.name)
    return ask(store, DetectRequest(photo, DetectorRequest("", label)))
