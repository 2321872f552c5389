"""A dataset that FiftyOne opens: `Dataset.from_dir(dataset_dir=..., dataset_type=fiftyone.types.FiftyOneDataset)`.

Without a version in its metadata FiftyOne reads it in the form of before 0.8 (`LegacyFiftyOneDatasetImporter`), which
does not depend on how this or that later version keeps its database.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lsn_core.handoff.verdict import Origin, Verdict


def metadata(origin: Origin) -> dict[str, Any]:
    """The content of metadata.json."""
    return {
        "name": "verdicts",
        "media_type": "image",
        "info": {"model": origin.model, "classes": list(origin.class_names)},
    }


def samples(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """The content of samples.json: photos by their absolute paths, with the fields `verdict` ("known" or "unknown") and
    `nearest_class`, which are classifications, and `score`, `threshold` and `p_value`, which are numbers."""
    return {
        "samples": [
            {
                "filepath": str(verdict.path),
                "tags": [],
                "verdict": {"_cls": "Classification", "label": verdict.label},
                "nearest_class": {"_cls": "Classification", "label": verdict.predicted_class},
                "score": verdict.score,
                "threshold": verdict.threshold,
                "p_value": verdict.p_value,
            }
            for verdict in verdicts
        ]
    }
