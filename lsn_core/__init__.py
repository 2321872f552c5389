"""Out-of-distribution detection with CLIP's positive and negative prompts (LSN, ICLR 2024)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lsn_core.errors import UserError

if TYPE_CHECKING:
    from lsn_core.backbones import Backbone, load_backbone
    from lsn_core.calibration import Calibration
    from lsn_core.conditional import ConditionalDetector
    from lsn_core.detector import Detector, Prediction
    from lsn_core.training import train
    from lsn_core.training_config import TrainConfig, get_preset

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
    "Backbone": "backbones",
    "Calibration": "calibration",
    "ConditionalDetector": "conditional",
    "Detector": "detector",
    "Prediction": "detector",
    "TrainConfig": "training_config",
    "get_preset": "training_config",
    "load_backbone": "backbones",
    "train": "training",
}


def __getattr__(name: str) -> Any:
    # Loaded when first asked for: torch takes seconds, and neither a worker that waits nor `jobs list` needs it.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
