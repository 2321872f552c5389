"""What a detector was fitted to beside its prompts, and how that is kept in its file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lsn_core.detector.choice import Choice
from lsn_core.errors import UserError
from lsn_core.scores.photos import KnownPhotos
from lsn_core.scores.registry import TERMS, WHOLE, Spread, Units


@dataclass(frozen=True)
class Fit:
    """What photos of the known classes, none of them used for calibration, tell a detector beside its prompts.

    Attributes:
        units: of the single scores, so that sums can be made of them; from folds of the training photos.
        profile: mean and spread over known images of the detector's own score and of its parts; None without photos.
        photos: features of training photos, where a score may need them.
        choice: how the score was chosen; None where it was not.
        test_unit: what the test temperatures of Eqs. 12 and 13 are multiples of; None is the backbone's temperature.
    """

    units: Units = field(default_factory=dict)
    profile: Mapping[str, Spread] | None = None
    photos: KnownPhotos | None = None
    choice: Choice | None = None
    test_unit: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, all but the photos."""
        return {
            "units": {name: dict(parts) for name, parts in self.units.items()},
            "profile": None if self.profile is None else dict(self.profile),
            "choice": None if self.choice is None else self.choice.to_dict(),
            "test_unit": self.test_unit,
            "photos": None if self.photos is None else "all" if self.photos.complete else "means",
        }

    def tensors(self) -> dict[str, Tensor]:
        """The photos, in half precision: see `KnownPhotos.rounded`."""
        if self.photos is None:
            return {}
        return {"photos.features": self.photos.features.half(), "photos.labels": self.photos.labels.to(torch.int32)}

    @staticmethod
    def of(values: Mapping[str, Any], tensors: Mapping[str, Tensor], classes: int) -> Fit:
        """The fit that `to_dict` and `tensors` told of. Raises UserError for wrong values."""
        try:
            units = {str(name): _spreads(parts) for name, parts in (values.get("units") or {}).items()}
            profile = None if values.get("profile") is None else _spreads(values["profile"])
            unit = None if values.get("test_unit") is None else float(values["test_unit"])
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            raise UserError(f"what it was fitted to is damaged ({error}).") from error
        if unit is not None and not 0 < unit < math.inf:
            raise UserError(f"its test temperatures are multiples of {unit}, which is no temperature.")
        photos = _photos(values.get("photos"), tensors, classes)
        return Fit(units, profile, photos, Choice.from_dict(values.get("choice")), unit)


def _spreads(values: Mapping[str, Any]) -> dict[str, Spread]:
    found = {str(part): (float(mean), float(spread)) for part, (mean, spread) in values.items()}
    if not all(map(math.isfinite, (number for pair in found.values() for number in pair))):
        raise ValueError("a number is not finite")
    if WHOLE not in found or not found.keys() <= {WHOLE, *TERMS}:
        raise ValueError(f"its parts are {', '.join(found) or 'missing'}")
    return found


def _photos(kept: Any, tensors: Mapping[str, Tensor], classes: int) -> KnownPhotos | None:
    if kept is None:
        return None
    features, labels = tensors.get("photos.features"), tensors.get("photos.labels")
    width = tensors["positive"].shape[-1]
    if (
        kept not in ("all", "means")
        or features is None
        or labels is None
        or features.ndim != 2
        or not len(features)
        or features.shape != (len(labels), width)
        or labels.ndim != 1
        or labels.is_floating_point()
        or bool(((labels < 0) | (labels >= classes)).any())
    ):
        raise UserError("the features of its photos are missing or damaged.")
    return KnownPhotos(features.float(), labels.long(), classes, complete=kept == "all")
