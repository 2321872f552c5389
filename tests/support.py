"""What several test files share and is no fixture."""

from __future__ import annotations

from pathlib import Path

import open_clip
import torch

from lsn_core.backbones import Backbone

REPO = Path(__file__).resolve().parent.parent


def random_backbone(arch: str, seed: int = 0, **options: object) -> Backbone:
    """A real open_clip architecture with random weights."""
    torch.manual_seed(seed)
    model = open_clip.create_model(arch, pretrained=None, **options)
    return Backbone(model, f"{arch} (random weights)", open_clip.get_tokenizer(arch))
