"""What every labelling tool is told of a photo and of the detector that looked at it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KNOWN = "known"
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Verdict:
    """The verdict on one photo that is a file.

    Attributes:
        path: the photo, absolute.
        known: whether it shows one of the classes.
        predicted_class: the class whose positive prompt fits best, whatever the verdict.
        score: higher is more in-distribution.
        threshold: the score from which on a photo is known; None where every photo is.
        p_value: share of known photos expected to score this low, in (0, 1]; None without a calibration.
    """

    path: Path
    known: bool
    predicted_class: str
    score: float
    threshold: float | None
    p_value: float | None

    @classmethod
    def of(cls, path: Path, line: Mapping[str, Any]) -> Verdict:
        """From a line of `score --json` that has no error."""
        return cls(
            path, line["verdict"] == "ID", line["predicted_class"], line["score"], line["threshold"], line["p_value"]
        )

    @property
    def label(self) -> str:
        """ "known" or "unknown"."""
        return KNOWN if self.known else UNKNOWN


@dataclass(frozen=True)
class Origin:
    """Where verdicts come from.

    Attributes:
        model: name of the detector, with that of its score.
        class_names: the C known classes.
        folder: what all photos have in common, absolute.
        prefix: what stands for `folder` in the tool, to be followed by a photo's path in it; None: the tool's own way.
    """

    model: str
    class_names: Sequence[str]
    folder: Path
    prefix: str | None = None

    def inside(self, verdict: Verdict) -> str:
        """The photo's path in the folder, with slashes."""
        return verdict.path.relative_to(self.folder).as_posix()
