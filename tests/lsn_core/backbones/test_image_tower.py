"""What the model saw of an image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from lsn_core.backbones.image_tower import seen_box


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("size", [(400, 200), (90, 301), (64, 64)])
def test_the_box_is_what_preprocessing_shows(mode: str, size: tuple[int, int]) -> None:
    settings = {"size": 64, "mode": "RGB", "mean": (0, 0, 0), "std": (1, 1, 1), "resize_mode": mode}
    transform = image_transform_v2(PreprocessCfg(**settings), is_train=False)
    # Red grows from 0.2 to 1 from left to right, green from top to bottom; a margin is black.
    across, down = (np.linspace(51, 255, n) for n in size)
    image = np.zeros((size[1], size[0], 3))
    image[..., 0], image[..., 1] = across[None], down[:, None]
    seen = transform(Image.fromarray(np.rint(image).astype(np.uint8)))
    left, top, right, bottom = seen_box(size, settings)
    for channel, start, end, length in ((0, left, right, size[0]), (1, top, bottom, size[1])):
        profile = seen[channel].amax(dim=channel)
        places = start + (torch.arange(64) + 0.5) / 64 * (end - start)  # in pixels of the image
        inside = (places > 1.5 * length / 64) & (places < length - 1.5 * length / 64)
        wanted = 0.2 + 0.8 * (places - 0.5) / (length - 1)
        assert (profile - wanted)[inside].abs().max() < 0.03
        assert (profile[(places < -1) | (places > length + 1)] < 0.01).all()
