"""One question about one photo, answered from what is cached; the page and the public endpoint ask it alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lsn_app.serving.photos import Photo, read_photo
from lsn_app.serving.requests import ZERO_SHOT, Problem, open_judge, problem_at
from lsn_app.serving.store import Store
from lsn_core import Detector, Prediction, UserError


@dataclass(frozen=True)
class Question:
    """What decides an answer.

    Attributes:
        photo: the photo in question.
        classes: class names as typed; of no meaning where a shipped detector is chosen.
        detector: label of a shipped detector, or ZERO_SHOT.
        backbone: name of the backbone for ZERO_SHOT.
        tpr: wanted true positive rate.
        calibration: photos of the known classes, for a detector that has no calibration of its own.
    """

    photo: Photo
    classes: str
    detector: str = ZERO_SHOT
    backbone: str = ""
    tpr: float = 0.95
    calibration: tuple[Photo, ...] = ()


@dataclass(frozen=True)
class Answer:
    """The verdict, and the detector that gave it."""

    prediction: Prediction
    detector: Detector
    temperature: float


def ask(store: Store, question: Question) -> Answer:
    """Answers a question; only what was never seen before is encoded. Raises Problem for a user's mistake."""
    detector, encoder = open_judge(store, question.classes, question.detector, question.backbone, question.calibration)
    with problem_at("photo"):
        feature = encoder.encode_photo(question.photo)
    with problem_at("calibration"):
        (prediction,) = detector.predict_features(feature, question.tpr)
    return Answer(prediction, detector, encoder.temperature)


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
        question = Question(read_photo(path, name), classes, backbone=store.default, tpr=tpr)
        prediction = ask(store, question).prediction
    except (Problem, UserError) as error:
        prediction = Prediction(None, None, None, False, None, None, error=str(error))
    return {"file": name, **prediction.as_dict()}
