"""One question about one photo, answered from what is cached; the page and the public endpoint ask it alike."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from torch import Tensor

from lsn_app.detect.thresholds import at_rate, predict
from lsn_app.serving.encoder import Encoder
from lsn_app.serving.photos import Photo, read_photo
from lsn_app.serving.requests import DetectorRequest, Problem, open_baseline, open_detector, problem_at
from lsn_app.serving.store import Store
from lsn_core import Detector, Prediction, UserError
from lsn_core.calibration import DEFAULT_TPR
from lsn_core.prompts.nouns import Noun, noun_features, nouns, unlike
from lsn_core.scores.registry import WORLD

_RESEMBLED, _LOOKED_AT = 3, 30


@dataclass(frozen=True)
class DetectRequest:
    """What decides an answer.

    Attributes:
        photo: the photo in question; None while there is none.
        detector: which detector is asked.
        tpr: wanted true positive rate.
    """

    photo: Photo | None
    detector: DetectorRequest
    tpr: float = DEFAULT_TPR


@dataclass(frozen=True)
class Answer:
    """The verdict, and the detector that gave it.

    Attributes:
        prediction: the verdict on the photo and its reasons.
        detector: the detector, calibrated where it can be.
        temperature: the backbone's own.
        tpr: the wanted true positive rate that set the threshold.
        baseline: the verdict of hand-written MCM; None where that is what is asked, or where it cannot serve.
        resembles: nouns that the photo resembles more than it does any class, best first; empty where the score does
            not look beyond the classes.
    """

    prediction: Prediction
    detector: Detector
    temperature: float
    tpr: float
    baseline: Prediction | None = None
    resembles: tuple[str, ...] = ()

    def at(self, tpr: float) -> Answer:
        """The same answer at another wanted true positive rate; nothing is read or encoded for it."""
        return replace(self, prediction=at_rate(self.prediction, self.detector, tpr), tpr=tpr)


def ask(store: Store, request: DetectRequest) -> Answer:
    """Answers a question; only what was never seen before is encoded. Raises Problem for a user's mistake."""
    if request.photo is None:
        raise Problem("photo", "There is no photo yet: drop one here, or pick an example.")
    detector, encoder = open_detector(store, request.detector)
    with problem_at("photo"):
        feature = encoder.encode_photo(request.photo)
    with problem_at("calibration"):
        (prediction,) = predict(detector, feature, request.tpr)
    store.on_verdict(str(prediction.verdict))
    baseline = open_baseline(store, request.detector)
    other = None if baseline is None else predict(baseline, feature, request.tpr)[0]
    resembles = _resembles(encoder, detector, feature) if WORLD in prediction.evidence else ()
    return Answer(prediction, detector, encoder.temperature, request.tpr, other, resembles)


@lru_cache(maxsize=16)
def _candidates(class_names: tuple[str, ...]) -> list[int]:
    return unlike(class_names)


def _resembles(encoder: Encoder, detector: Detector, feature: Tensor) -> tuple[str, ...]:
    candidates = _candidates(detector.class_names)
    cosines = (feature @ noun_features(encoder.backbone)[candidates].T)[0]
    classes = (feature @ detector.written.T).amax()
    best = cosines.topk(min(_LOOKED_AT, len(candidates))).indices.tolist()
    found: list[Noun] = []
    for noun in (nouns()[candidates[i]] for i in best if cosines[i] > classes):
        # Another name of what was found, or a kind of it, says nothing new.
        if not any(noun.name in other.kinds or other.name in noun.kinds for other in found):
            found.append(noun)
    return tuple(noun.name for noun in found[:_RESEMBLED])


def score_line(store: Store, path: str, name: str, classes: str, tpr: float) -> dict[str, Any]:
    """A zero-shot answer as the command line's JSON score line: with `error` set where there is no verdict.

    Args:
        path: the image file.
        name: what to call it.
        classes: class names as typed.
        tpr: wanted true positive rate.
    """
    try:
        if not 0.0 < tpr < 1.0:
            raise UserError(f"The wanted true positive rate must lie between 0 and 1, not at {tpr}. 0.95 is usual.")
        wanted = DetectorRequest(classes, backbone=store.default)
        prediction = ask(store, DetectRequest(read_photo(path, name), wanted, tpr)).prediction
    except (Problem, UserError) as error:
        prediction = Prediction.failed(str(error), calibrated=False)
    return {"file": name, **prediction.as_dict()}
