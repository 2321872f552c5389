"""Which detector is asked for, and mistakes told by the input they belong to; the page and the endpoints ask alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import torch

from lsn_app.serving.encoder import Encoder
from lsn_app.serving.photos import Photo
from lsn_app.serving.store import Store
from lsn_core import Detector, UserError
from lsn_core.class_names import check_class_names, split_class_names
from lsn_core.scores.registry import BASELINE, SCORES

ZERO_SHOT = "names"  # in the place of a detector's label
ZERO_SHOT_TITLE = "The class names alone"
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
        calibration: photos of the known classes, which then set the threshold.
    """

    classes: str
    label: str = ZERO_SHOT
    backbone: str = ""
    calibration: tuple[Photo, ...] = ()

    @property
    def identity(self) -> tuple[str, ...]:
        """What a calibration belongs to: it holds for no other detector, classes or backbone."""
        return (
            (self.label,) if self.label != ZERO_SHOT else (ZERO_SHOT, self.backbone, *split_class_names(self.classes))
        )


def open_detector(store: Store, wanted: DetectorRequest) -> tuple[Detector, Encoder]:
    """The detector that is asked for, and its backbone. Raises Problem for a user's mistake."""
    saved, encoder, names = _open(store, wanted)

    def prepare() -> Detector:
        with problem_at("classes"):
            detector = saved or encoder.zero_shot(names)
        return _calibrated(detector, encoder, wanted)

    return store.prepare((encoder.fingerprint, wanted.label, names, wanted.calibration), prepare), encoder


def open_baseline(store: Store, wanted: DetectorRequest) -> Detector | None:
    """Hand-written MCM of the same classes, which every detector has to beat; None where it is that or cannot serve.

    Its threshold is set like the detector's: by the calibration photos, or else by the spread of MCM over the training
    photos, as far as the detector's file has it. Raises Problem as `open_detector` does.
    """
    saved, encoder, names = _open(store, wanted)
    if (saved is not None and saved.score_name == BASELINE) or len(names) < SCORES[BASELINE].min_classes:
        return None

    def prepare() -> Detector:
        written = encoder.zero_shot(names)
        if saved is not None:
            written = written.with_fit(replace(saved.fit, photos=None), written.score_name)
        return _calibrated(written.with_score(BASELINE), encoder, wanted)

    return store.prepare((BASELINE, encoder.fingerprint, wanted.label, names, wanted.calibration), prepare)


def _open(store: Store, wanted: DetectorRequest) -> tuple[Detector | None, Encoder, tuple[str, ...]]:
    with problem_at("model"):
        saved, encoder = open_saved(store, wanted.label, wanted.backbone)
    with problem_at("classes"):
        return saved, encoder, saved.class_names if saved else parse_classes(wanted.classes)


def _calibrated(detector: Detector, encoder: Encoder, wanted: DetectorRequest) -> Detector:
    if not wanted.calibration:
        return detector
    with problem_at("calibration"):
        return detector.calibrate(encode_all(encoder, wanted.calibration))


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
