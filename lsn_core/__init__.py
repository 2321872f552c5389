"""Out-of-distribution detection with CLIP's positive and negative prompts (LSN, ICLR 2024)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lsn_core.errors import UserError

if TYPE_CHECKING:
    from lsn_core.backbones.backbone import Backbone, load_backbone
    from lsn_core.calibration import Calibration
    from lsn_core.detector.conditional import ConditionalDetector
    from lsn_core.detector.detector import Detector, Prediction
    from lsn_core.training.config import TrainConfig, get_preset
    from lsn_core.training.loop import train

__all__ = [
    "Backbone",
    "Calibration",
    "ConditionalDetector",
    "Detector",
    "Prediction",
    "TrainConfig",
    "UserError",
    "get_preset",
    "load_backbone",
    "train",
]

_HOMES = {
    "Backbone": "backbones.backbone",
    "Calibration": "calibration",
    "ConditionalDetector": "detector.conditional",
    "Detector": "detector.detector",
    "Prediction": "detector.detector",
    "TrainConfig": "training.config",
    "get_preset": "training.config",
    "load_backbone": "backbones.backbone",
    "train": "training.loop",
}


def __getattr__(name: str) -> Any:
    # Loaded when first asked for: torch takes seconds, and neither a worker that waits nor `jobs list` needs it.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
