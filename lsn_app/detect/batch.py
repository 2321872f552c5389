"""Many photos asked of one detector: files in, a verdict for each out, as rows, words and CSV."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from lsn_app.detect.answer import at_threshold
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
        """The same answer at another wanted true positive rate, without evidence; nothing is read or encoded for it."""
        threshold = self.detector.threshold(tpr)
        return replace(self, predictions=[at_threshold(one, threshold) for one in self.predictions], tpr=tpr)

    def without_reasons(self) -> BatchAnswer:
        """Without the cosines to each class: with a thousand photos and classes they take some hundred megabytes."""
        return replace(self, predictions=[replace(one, positive={}, negative={}) for one in self.predictions])


def predict_batch(batch: Batch, detector: Detector, features: Mapping[int, torch.Tensor], tpr: float) -> BatchAnswer:
    """A prediction for each photo of the batch, in its order.

    Args:
        features: as from `Batch.encode`.
        tpr: wanted true positive rate.
    """
    calibrated = detector.calibration is not None
    predictions = [Prediction.failed(batch.errors.get(i), calibrated) for i in range(len(batch.images))]
    indices = list(features)
    for start in range(0, len(indices), _AT_ONCE):
        part = indices[start : start + _AT_ONCE]
        stacked = torch.cat([features[index] for index in part])
        for index, prediction in zip(part, detector.predict_features(stacked, tpr), strict=True):
            predictions[index] = prediction
    return BatchAnswer(batch, predictions, detector, tpr)


def rows(predictions: Sequence[Prediction]) -> list[list[str | float | None]]:
    """The table's row of each photo: verdict, score, p-value, class; or None and the error."""
    return [
        [None, one.error] if one.error else [one.verdict, one.score, one.p_value, one.predicted_class]
        for one in predictions
    ]


def summary(answer: BatchAnswer) -> str:
    """What came out, how far it can be trusted, and which files were no pictures, as HTML."""
    counts, total = Counter(one.verdict for one in answer.predictions), len(answer.predictions)
    parts = [f"<b>{counts['ID']:,} of {total:,} photos {'shows' if counts['ID'] == 1 else 'show'} a known class</b>"]
    parts.append(f"{counts['OOD']:,} {'shows' if counts['OOD'] == 1 else 'show'} none of them")
    if counts[None]:
        parts.append(f"{counts[None]:,} could not be read")
    html = f'<p class="lsn-counted" role="status">{"; ".join(parts)}.</p>'
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
