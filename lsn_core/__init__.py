"""Out-of-distribution detection with CLIP's positive and negative prompts (LSN, ICLR 2024)."""

from lsn_core.backbones import Backbone, load_backbone
from lsn_core.calibration import Calibration
from lsn_core.detector import Detector, Prediction
from lsn_core.errors import UserError

__all__ = ["Backbone", "Calibration", "Detector", "Prediction", "UserError", "load_backbone"]
