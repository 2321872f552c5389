"""What is done to a picture before an image tower sees it: open_clip's steps, in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor

_THIN = 16  # aspect ratio above which the unseen ends are cut off before resizing
_LONG = 1024  # how many times the tower's side the longer side of a picture may be before it is averaged


class Preprocessing:
    """open_clip's preprocessing in two halves, of which the first can be done by other threads.

    Args:
        settings: open_clip's preprocess_cfg.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        steps = image_transform_v2(PreprocessCfg(**settings), is_train=False).transforms
        self._resizing, self._normalising = steps[:-2], steps[-1]  # the one between makes a tensor of a picture

    def crop(self, image: Image.Image) -> Tensor:
        """An upright RGB picture, resized and cropped: shape (H, W, 3), uint8."""
        picture = bounded(image, self._settings)
        for step in self._resizing:
            picture = step(picture)
        return torch.from_numpy(np.array(picture))

    def normalise(self, crops: Tensor) -> Tensor:
        """Crops (N, H, W, 3), uint8 -> what an image tower takes, (N, 3, H, W), fp32."""
        normalised: Tensor = self._normalising(crops.permute(0, 3, 1, 2).float().div(255))
        return normalised


def bounded(image: Image.Image, settings: dict[str, Any]) -> Image.Image:
    """A very long and thin picture made shorter, so that no step of its preprocessing fills the memory.

    Where the shorter side is resized to the tower's and the middle cut out, 1 x 60,000 pixels would become 224 x 13
    million first: the ends, which are not seen, are cut off before. Where the longer side is resized, the table of its
    filter grows with it. Other pictures are left as they are.
    """
    short, long = sorted(image.size)
    wide = image.width > image.height
    size = settings.get("size", 224)
    side = min(size) if isinstance(size, Sequence) else size
    mode = settings.get("resize_mode") or "shortest"
    if mode == "shortest":
        cut = max(0, long - _THIN * short) // 2
        return image.crop((cut, 0, long - cut, short) if wide else (0, cut, short, long - cut)) if cut else image
    factor = long // (side * _LONG)
    if factor > 1:
        image = image.reduce((factor, 1) if wide else (1, factor))
    if mode == "longest" and short * side < long:  # less than a pixel would be left of the shorter side
        return image.resize((side, 1) if wide else (1, side), Image.Resampling.BICUBIC)
    return image
