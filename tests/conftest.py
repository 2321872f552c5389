"""Fixtures that several test files share."""

from __future__ import annotations

import os
from pathlib import Path

import open_clip
import pytest
import torch
from support import REPO

from lsn_core.backbones import Backbone, load_backbone

torch.set_num_threads(min(2, os.cpu_count() or 1))


@pytest.fixture(scope="session")
def examples() -> Path:
    """The 16 example photos that ship with the project."""
    return REPO / "assets" / "examples"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real image sets for tests, not part of the project: LSN_TEST_DATA, or ../shared/data beside the checkout."""
    path = Path(os.environ.get("LSN_TEST_DATA", REPO.parent / "shared" / "data"))
    if not (path / "class_names.json").is_file():
        pytest.skip(f"real image sets not found at {path}: set LSN_TEST_DATA to the folder that holds them")
    return path


@pytest.fixture(scope="session")
def embedded() -> Backbone:
    """The embedded checkpoint."""
    return load_backbone("embedded", device="cpu")


@pytest.fixture(scope="session")
def tiny_backbone() -> Backbone:
    """A small ViT CLIP with random weights: 32-pixel images, 64 dimensions, two layers."""
    torch.manual_seed(0)
    model = open_clip.CLIP(
        embed_dim=64,
        vision_cfg={"image_size": 32, "layers": 2, "width": 64, "head_width": 16, "patch_size": 8},
        text_cfg={"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 2},
    )
    model.visual.preprocess_cfg = {"size": 32, "mode": "RGB", "interpolation": "bicubic", "resize_mode": "shortest"}
    return Backbone(model, "tiny (random weights)", open_clip.get_tokenizer("ViT-B-32"))
