"""Which detector is asked for, and mistakes told by the input they belong to; the page and the endpoints ask alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch

from lsn_app.serving.encoder import Encoder
from lsn_app.serving.photos import Photo
from lsn_app.serving.store import Store
from lsn_core import Detector, UserError
from lsn_core.class_names import check_class_names, split_class_names

ZERO_SHOT = "Zero-shot from the class names"
MAX_CLASSES = 1000
_LONGEST_LIST = 40_000
Place = Literal["photo", "texts", "classes", "model", "calibration", "files", "known", "others", "batch"]


class Problem(Exception):
    """A user's mistake and the input it belongs to."""

    def __init__(self, place: Place, sentence: str) -> None:
        super().__init__(sentence)
        self.place: Place = place


@contextmanager
def problem_at(place: Place) -> Iterator[None]:
    """A UserError in this block becomes a Problem of that input."""
    try:
        yield
    except UserError as error:
        raise Problem(place, str(error)) from error


@dataclass(frozen=True)
class DetectorRequest:
    """Which detector is asked for.

    Attributes:
        classes: class names as typed; of no meaning where a saved detector is chosen.
        label: of a saved detector (shipped, uploaded or trained here), or ZERO_SHOT.
        backbone: name of the backbone for ZERO_SHOT.
        calibration: photos of the known classes, for a detector that has no calibration of its own.
    """

    classes: str
    label: str = ZERO_SHOT
    backbone: str = ""
    calibration: tuple[Photo, ...] = ()


def open_detector(store: Store, wanted: DetectorRequest) -> tuple[Detector, Encoder]:
    """The detector that is asked for, and its backbone. Raises Problem for a user's mistake."""
    with problem_at("model"):
        detector, encoder = open_saved(store, wanted.label, wanted.backbone)
    if detector is None:
        with problem_at("classes"):
            detector = encoder.zero_shot(parse_classes(wanted.classes))
    if wanted.calibration and detector.calibration is None:
        with problem_at("calibration"):
            detector = detector.calibrate(encode_all(encoder, wanted.calibration))
    return detector, encoder


def open_saved(store: Store, label: str, backbone: str) -> tuple[Detector | None, Encoder]:
    """A saved detector with its backbone, or for ZERO_SHOT the backbone alone."""
    if label == ZERO_SHOT:
        return None, store.encoder(backbone)
    return store.detector(label)


def encode_all(encoder: Encoder, photos: Sequence[Photo]) -> torch.Tensor:
    """Features of photos, shape (N, D)."""
    return torch.cat([encoder.encode_photo(photo) for photo in photos])


def parse_classes(text: str | None) -> tuple[str, ...]:
    """Class names from a list as people type or paste one, see `split_class_names`.

    Raises:
        UserError: too few names, one given twice, or too many.
    """
    text = text or ""
    if len(text) > _LONGEST_LIST:
        raise UserError(f"The class list has {len(text):,} letters; at most {_LONGEST_LIST:,} are read. Shorten it.")
    names = split_class_names(text)
    if len(names) > MAX_CLASSES:
        raise UserError(f"The class list has {len(names):,} names; at most {MAX_CLASSES:,} are taken. Shorten it.")
    return check_class_names(names)
