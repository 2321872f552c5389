"""Out-of-distribution detection with CLIP's positive and negative prompts (LSN, ICLR 2024)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lsn_core.errors import UserError

if TYPE_CHECKING:
    from lsn_core.backbones.backbone import Backbone
    from lsn_core.backbones.loading import load_backbone
    from lsn_core.data.features import extract_features
    from lsn_core.data.labelled import load_data
    from lsn_core.detector.detector import Detector
    from lsn_core.detector.prediction import Prediction
    from lsn_core.evaluation import evaluate
    from lsn_core.heatmaps.maps import explain
    from lsn_core.shipped import examples
    from lsn_core.training.config import TrainConfig
    from lsn_core.training.loop import train
    from lsn_core.training.presets import get_preset

__version__ = "0.1.0"

__all__ = [
    "Backbone",
    "Detector",
    "Prediction",
    "TrainConfig",
    "UserError",
    "evaluate",
    "examples",
    "explain",
    "extract_features",
    "get_preset",
    "load_backbone",
    "load_data",
    "train",
]

_HOMES = {
    "Backbone": "backbones.backbone",
    "Detector": "detector.detector",
    "Prediction": "detector.prediction",
    "TrainConfig": "training.config",
    "evaluate": "evaluation",
    "examples": "shipped",
    "explain": "heatmaps.maps",
    "extract_features": "data.features",
    "get_preset": "training.presets",
    "load_backbone": "backbones.loading",
    "load_data": "data.labelled",
    "train": "training.loop",
}


def __getattr__(name: str) -> Any:
    # Loaded when first asked for: torch takes seconds, and neither a worker that waits nor `jobs list` needs it.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
