"""Many photos asked of one detector: files in, a verdict for each out, as rows, words and CSV."""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from lsn_app.detect.thresholds import at_rate, predict, promises
from lsn_app.shared import words
from lsn_app.shared.csv_links import csv_text, download_link
from lsn_app.shared.uploads import Batch
from lsn_core import Detector, Prediction
from lsn_core.calibration import Calibration

_AT_ONCE = 256  # text features may depend on the image, so that all at once could take more memory than there is
COLUMNS = (
    "file",
    "verdict",
    "score",
    "threshold",
    "calibrated",
    "p_value",
    "predicted_class",
    "score_name",
    "evidence",
    "positive",
    "negative",
    "error",
)


@dataclass(frozen=True)
class BatchAnswer:
    """The verdicts on many photos, and the detector that gave them.

    Attributes:
        batch: the photos.
        predictions: one for each photo, in order; with `error` set for one that cannot be read.
        detector: the detector, calibrated where it can be.
        tpr: the wanted true positive rate that set the threshold.
    """

    batch: Batch
    predictions: list[Prediction]
    detector: Detector
    tpr: float

    def at(self, tpr: float) -> BatchAnswer:
        """The same answer at another wanted true positive rate; nothing is read or encoded for it."""
        return replace(self, predictions=[at_rate(one, self.detector, tpr) for one in self.predictions], tpr=tpr)

    def without_reasons(self) -> BatchAnswer:
        """Without the cosines to each class: with a thousand photos and classes they take some hundred megabytes."""
        return replace(
            self, predictions=[replace(one, positive={}, negative={}, evidence={}) for one in self.predictions]
        )


def predict_batch(batch: Batch, detector: Detector, features: Mapping[int, torch.Tensor], tpr: float) -> BatchAnswer:
    """A prediction for each photo of the batch, in its order.

    Args:
        features: as from `Batch.encode`.
        tpr: wanted true positive rate.
    """
    calibrated = promises(detector, tpr)
    predictions = [Prediction.failed(batch.errors.get(i), calibrated) for i in range(len(batch.images))]
    indices = list(features)
    for start in range(0, len(indices), _AT_ONCE):
        part = indices[start : start + _AT_ONCE]
        stacked = torch.cat([features[index] for index in part])
        for index, prediction in zip(part, predict(detector, stacked, tpr), strict=True):
            predictions[index] = prediction
    return BatchAnswer(batch, predictions, detector, tpr)


def rows(predictions: Sequence[Prediction]) -> list[list[str | float | None]]:
    """The table's row of each photo: verdict, score, p-value, class; or None and the error."""
    return [
        [None, one.error] if one.error else [one.verdict, one.score, one.p_value, one.predicted_class]
        for one in predictions
    ]


def write_unknown(answer: BatchAnswer, path: Path) -> int:
    """Writes the photos that are none of the classes to a zip, under their names; returns how many there are.

    Raises:
        UserError: one of them is no longer there.
    """
    images = answer.batch.images
    unknown = [index for index, one in enumerate(answer.predictions) if one.verdict == "OOD"]
    with zipfile.ZipFile(path, "w") as archive:
        for index in unknown:
            archive.writestr(images.names[index], images.read(index))
    return len(unknown)


def summary(answer: BatchAnswer) -> str:
    """What came out, how far it can be trusted, and which files were no pictures, as HTML."""
    counts, total = Counter(one.verdict for one in answer.predictions), len(answer.predictions)
    parts = [f"<b>{counts['ID']:,} of {total:,} {'photo' if total == 1 else 'photos'} judged as known</b>"]
    parts.append(f"{counts['OOD']:,} as none of the classes")
    if counts[None]:
        parts.append(f"{counts[None]:,} could not be read")
    html = f'<p class="lsn-counted" role="status">{"; ".join(parts)}.</p>'
    if answer.batch.given:
        html += words.note(
            f"Stopped: {answer.batch.given - total:,} of the {answer.batch.given:,} photos were not asked."
        )
    html += words.note(_trust(answer.detector, answer.tpr))
    left_out = answer.batch.left_out
    if left_out:
        named = ", ".join(left_out[:3]) + (", …" if len(left_out) > 3 else "")
        count = len(left_out)
        html += words.note(
            f"{count:,} other {'file is no picture' if count == 1 else 'files are no pictures'}: {named}."
        )
    return html


def _trust(detector: Detector, tpr: float) -> str:
    if detector.calibration is None:
        return "The threshold is a rule of thumb without a known error rate, until photos of the classes calibrate it."
    count = len(detector.calibration)
    if not promises(detector, tpr):
        return (
            f"{count} calibration {'photo is' if count == 1 else 'photos are'} too few to promise that "
            f"{words.percent(tpr)} of known photos are kept: {Calibration.images_needed(tpr)} are needed. "
            "The threshold is a rule of thumb."
        )
    return (
        f"The threshold keeps at least {words.percent(tpr)} of known photos, by {count:,} of them. The p-value is the "
        "share of known photos expected to score this low."
    )


def csv_link(answer: BatchAnswer) -> str:
    """A link to all verdicts as CSV, with the columns of the command line's `score --json`; dictionaries as JSON."""
    pairs = zip(answer.batch.images.names, answer.predictions, strict=True)
    lines = [{"file": name, **one.as_dict()} for name, one in pairs]
    table = [
        [
            json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value
            for value in map(line.get, COLUMNS)
        ]
        for line in lines
    ]
    return download_link(csv_text(COLUMNS, table), "verdicts.csv", "Download the verdicts as CSV")
