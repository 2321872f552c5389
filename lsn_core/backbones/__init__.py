"""Any open_clip model as an image tower and a promptable text tower."""

from lsn_core.backbones.late_transformers import import_open_clip
from lsn_core.backbones.quick_import import import_towers

import_towers()  # before open_clip does
import_open_clip()
