"""One question about one photo, answered from what is cached; the page and the public endpoint ask it alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch

from lsn_app.serving.encoder import Encoder
from lsn_app.serving.photos import Photo
from lsn_app.serving.store import Store
from lsn_core import Detector, UserError
from lsn_core.class_names import check_class_names, split_class_names

ZERO_SHOT = "Zero-shot from the class names"
Place = Literal["photo", "texts", "classes", "model", "calibration", "files", "known", "others", "batch"]


class Problem(Exception):
    """A user's mistake and the input it belongs to."""

    def __init__(self, place: Place, sentence: str) -> None:
        super().__init__(sentence)
        self.place: Place = place


def open_judge(
    store: Store, classes: str, label: str, backbone: str, calibration: Sequence[Photo] = ()
) -> tuple[Detector, Encoder]:
    """A shipped detector, or for ZERO_SHOT one of the classes as typed. Raises Problem for a user's mistake.

    Args:
        calibration: photos of the known classes, for a detector that has no calibration of its own.
    """
    with problem_at("model"):
        detector, encoder = open_detector(store, label, backbone)
    if detector is None:
        with problem_at("classes"):
            detector = encoder.zero_shot(parse_classes(classes))
    if calibration and detector.calibration is None:
        with problem_at("calibration"):
            detector = detector.calibrate(encode_all(encoder, calibration))
    return detector, encoder


def open_detector(store: Store, label: str, backbone: str) -> tuple[Detector | None, Encoder]:
    """A shipped detector with its backbone, or for ZERO_SHOT the backbone alone."""
    if label == ZERO_SHOT:
        return None, store.encoder(backbone)
    return store.detector(label)


def encode_all(encoder: Encoder, photos: Sequence[Photo]) -> torch.Tensor:
    """Features of photos, shape (N, D)."""
    return torch.cat([encoder.encode_photo(photo) for photo in photos])


@contextmanager
def problem_at(place: Place) -> Iterator[None]:
    """A UserError in this block becomes a Problem of that input."""
    try:
        yield
    except UserError as error:
        raise Problem(place, str(error)) from error


MAX_CLASSES = 1000
_LONGEST_LIST = 40_000


def parse_classes(text: str | None) -> tuple[str, ...]:
    """Class names from a list as people type or paste one, see `split_class_names`.

    Raises:
        UserError: fewer than two names, one given twice, or too many.
    """
    text = text or ""
    if len(text) > _LONGEST_LIST:
        raise UserError(f"The class list has {len(text):,} letters; at most {_LONGEST_LIST:,} are read. Shorten it.")
    names = split_class_names(text)
    if len(names) > MAX_CLASSES:
        raise UserError(f"The class list has {len(names):,} names; at most {MAX_CLASSES:,} are taken. Shorten it.")
    return check_class_names(names)
