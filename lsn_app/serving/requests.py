"""One question about one photo, answered from what is cached; the page and the public endpoint ask it alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from lsn_app.serving.photos import Photo, read_photo
from lsn_app.serving.store import Encoder, Store
from lsn_app.shared.words import parse_classes
from lsn_core import Detector, Prediction, UserError

ZERO_SHOT = "Zero-shot from the class names"
Place = Literal["photo", "texts", "classes", "model", "calibration", "files", "known", "others", "batch"]


class Problem(Exception):
    """A user's mistake and the input it belongs to."""

    def __init__(self, place: Place, sentence: str) -> None:
        super().__init__(sentence)
        self.place: Place = place


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
    feature = at("photo", lambda: encoder.encode_photo(question.photo))
    prediction = at("calibration", lambda: detector.predict_features(feature, question.tpr)[0])
    return Answer(prediction, detector, encoder.temperature)


def open_judge(
    store: Store, classes: str, label: str, backbone: str, calibration: Sequence[Photo] = ()
) -> tuple[Detector, Encoder]:
    """A shipped detector, or for ZERO_SHOT one of the classes as typed. Raises Problem for a user's mistake.

    Args:
        calibration: photos of the known classes, for a detector that has no calibration of its own.
    """
    detector, encoder = at("model", lambda: open_detector(store, label, backbone))
    if detector is None:
        names = at("classes", lambda: parse_classes(classes))
        detector = at("classes", lambda: encoder.zero_shot(names))
    if calibration and detector.calibration is None:
        features = at("calibration", lambda: encode_all(encoder, calibration))
        detector = at("calibration", lambda: detector.calibrate(features))
    return detector, encoder


def open_detector(store: Store, label: str, backbone: str) -> tuple[Detector | None, Encoder]:
    """A shipped detector with its backbone, or for ZERO_SHOT the backbone alone."""
    if label == ZERO_SHOT:
        return None, store.encoder(backbone)
    return store.detector(label)


def encode_all(encoder: Encoder, photos: Sequence[Photo]) -> torch.Tensor:
    """Features of photos, shape (N, D)."""
    return torch.cat([encoder.encode_photo(photo) for photo in photos])


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


def at(place: Place, step: Callable[[], Any]) -> Any:
    """What the step gives; its UserError becomes a Problem of that input."""
    try:
        return step()
    except UserError as error:
        raise Problem(place, str(error)) from error
