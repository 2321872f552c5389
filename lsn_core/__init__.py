"""Out-of-distribution detection with CLIP's positive and negative prompts (LSN, ICLR 2024)."""

from lsn_core.backbones import Backbone, load_backbone
from lsn_core.calibration import Calibration
from lsn_core.conditional import ConditionalDetector
from lsn_core.detector import Detector, Prediction
from lsn_core.errors import UserError
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
