"""Many photos judged by one detector: files in, a verdict for each out, as rows, words and CSV."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch

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
    "positive",
    "negative",
    "error",
)


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
