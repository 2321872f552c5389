"""Many photos judged by one detector: files in, a verdict for each out, as rows, words and CSV."""

from __future__ import annotations

import base64
import io
import json
import math
import mimetypes
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from lsn_app.serving.encoder import Encoder
from lsn_app.serving.photos import Item, read_file
from lsn_app.serving.requests import Problem
from lsn_app.shared import words
from lsn_app.shared.csv_links import csv_text, download_link
from lsn_core import Detector, Prediction, UserError
from lsn_core.calibration import Calibration
from lsn_core.data.archive import ZipSource
from lsn_core.data.images import IMAGE_SUFFIXES, is_clutter, open_image
from lsn_core.data.sources import DataLimits

MAX_PHOTOS = 1000
MAX_BYTES = 2**30
ZIP_LIMITS = DataLimits(max_entries=4 * MAX_PHOTOS, max_total_bytes=MAX_BYTES)
_THUMBNAIL = (64, 64)
_AT_ONCE = 256  # text features may depend on the image, so that all at once could take more memory than there is
COLUMNS = (
    "file", "verdict", "score", "threshold", "calibrated", "p_value", "predicted_class", "positive", "negative", "error"
)  # fmt: skip


@dataclass
class Batch:
    """Many photos, read once; what they are asked may change.

    Attributes:
        items: the photos.
        left_out: names of files beside them that are no pictures.
        thumbnails: by place, as data links; none where a photo cannot be read.
        errors: by place, why a photo cannot be read.
    """

    items: list[Item]
    left_out: list[str] = field(default_factory=list)
    thumbnails: dict[int, str] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)

    def encode(
        self, encoder: Encoder, on_done: Callable[[int], object] = lambda count: None
    ) -> dict[int, torch.Tensor]:
        """Features, each of shape (1, D), by the place of their photo; from the cache where it has them."""
        places = [place for place in range(len(self.items)) if place not in self.errors]
        found = encoder.encode_many(
            [self.items[place] for place in places],
            on_done,
            lambda i, picture: self.thumbnails.setdefault(places[i], thumbnail(picture)),
        )
        self.errors |= {p: str(error) for p, error in zip(places, found, strict=True) if isinstance(error, UserError)}
        return {p: feature for p, feature in zip(places, found, strict=True) if isinstance(feature, torch.Tensor)}

    def finish_thumbnails(self) -> None:
        """Makes those of photos whose features were cached, so that they were not decoded."""
        for place in set(range(len(self.items))) - self.thumbnails.keys() - self.errors.keys():
            try:
                item = self.items[place]
                self.thumbnails[place] = thumbnail(open_image(item.read(), name=item.name))
            except UserError as error:
                self.errors[place] = str(error)


def thumbnail(picture: Image.Image) -> str:
    """A small JPEG of a picture as a data link."""
    small = picture.copy()
    small.thumbnail(_THUMBNAIL)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=70)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def find_items(files: Sequence[tuple[str, str]]) -> Batch:
    """The photos that uploaded files stand for.

    Args:
        files: path and name of each: photos, the files of a folder, or zips of any layout.

    Raises:
        Problem: a zip cannot be read, there are no pictures, or too many.
    """
    found = Batch([])
    if sum(Path(path).stat().st_size for path, _ in files if Path(path).is_file()) > MAX_BYTES:
        raise Problem("batch", f"The files have more than {MAX_BYTES / 2**30:.3g} GiB together. Give fewer.")
    for path, name in files:
        if name.lower().endswith(".zip"):
            try:
                source = ZipSource(Path(path), ZIP_LIMITS)
            except UserError as error:
                raise Problem("batch", str(error).replace(path, name)) from error
            inside = [(entry, partial(source.read, place)) for place, entry in enumerate(source.files)]
        else:
            inside = [(name, partial(read_file, path, name))]
        for entry, read in inside:
            if _is_picture(entry):
                found.items.append(Item(entry, read))
            elif not is_clutter(entry):
                found.left_out.append(entry)
    if not found.items:
        raise Problem("batch", "There are no pictures in what was given. Give photos, or a folder or zip of photos.")
    if len(found.items) > MAX_PHOTOS:
        raise Problem("batch", f"{len(found.items):,} photos were given; at most {MAX_PHOTOS:,} are taken. Give fewer.")
    return found


def _is_picture(name: str) -> bool:
    # Formats that are not read here count too: whoever gives a HEIC photo is to be told so.
    return Path(name).suffix.lower() in IMAGE_SUFFIXES or str(mimetypes.guess_type(name)[0]).startswith("image/")


def judge(batch: Batch, detector: Detector, features: dict[int, torch.Tensor], tpr: float) -> list[Prediction]:
    """A prediction for each photo of the batch, in its order; with `error` set for one that cannot be read.

    Args:
        features: as from `Batch.encode`.
        tpr: wanted true positive rate.
    """
    calibrated = detector.calibration is not None
    found = [
        Prediction(None, None, None, calibrated, None, None, error=batch.errors.get(i)) for i in range(len(batch.items))
    ]
    places = list(features)
    for start in range(0, len(places), _AT_ONCE):
        part = places[start : start + _AT_ONCE]
        stacked = torch.cat([features[place] for place in part])
        for place, prediction in zip(part, detector.predict_features(stacked, tpr), strict=True):
            found[place] = prediction
    return found


def rows(predictions: Sequence[Prediction]) -> list[list[Any]]:
    """What the table shows of each photo: verdict, score, p-value, class; or None and the error."""
    return [
        [None, one.error] if one.error else [one.verdict, one.score, one.p_value, one.predicted_class]
        for one in predictions
    ]


def summary(batch: Batch, predictions: Sequence[Prediction], detector: Detector, tpr: float) -> str:
    """What came out, how far it can be trusted, and which files were no pictures, as HTML."""
    counts, total = Counter(one.verdict for one in predictions), len(predictions)
    parts = [f"<b>{counts['ID']:,} of {total:,} photos {'shows' if counts['ID'] == 1 else 'show'} a known class</b>"]
    parts.append(f"{counts['OOD']:,} {'shows' if counts['OOD'] == 1 else 'show'} none of them")
    if counts[None]:
        parts.append(f"{counts[None]:,} could not be read")
    said = f'<p class="lsn-counted" role="status">{"; ".join(parts)}.</p>'
    said += words.note(_trust(detector, tpr))
    if batch.left_out:
        shown = ", ".join(batch.left_out[:3]) + (", …" if len(batch.left_out) > 3 else "")
        count = len(batch.left_out)
        said += words.note(
            f"{count:,} other {'file is no picture' if count == 1 else 'files are no pictures'}: {shown}."
        )
    return said


def _trust(detector: Detector, tpr: float) -> str:
    threshold = detector.threshold(tpr)
    if detector.calibration is None:
        return (
            f"The threshold {threshold:.4f} is uncalibrated: a rule of thumb without a known error rate. For one that "
            "you can move and trust, add photos of your classes under “Calibrate” above."
        )
    count = len(detector.calibration)
    if math.isinf(threshold):
        return (
            f"{count} calibration {'photo is' if count == 1 else 'photos are'} too few to keep {words.percent(tpr)} of "
            f"known photos: {Calibration.images_needed(tpr)} are needed. There is no threshold, so every photo passes."
        )
    return (
        f"The threshold {threshold:.4f}, set from {count} photos, keeps at least {words.percent(tpr)} of known photos. "
        "The p-value is the share of known photos expected to score this low."
    )


def csv_link(batch: Batch, predictions: Sequence[Prediction]) -> str:
    """A link to all verdicts as CSV, with the columns of the command line's `score --json`; dictionaries as JSON."""
    lines = [{"file": item.name, **one.as_dict()} for item, one in zip(batch.items, predictions, strict=True)]
    table = [
        [
            json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value
            for value in map(line.get, COLUMNS)
        ]
        for line in lines
    ]
    return download_link(csv_text(COLUMNS, table), "verdicts.csv", "Download the verdicts as CSV")
