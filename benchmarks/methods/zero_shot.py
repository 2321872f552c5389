"""Methods that compare images with written prompts."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.harness.images import Images, Scorer
from benchmarks.harness.setting import Setting
from lsn_core.scores.matching import mcm


def zero_shot(score: str) -> Callable[[Setting], Scorer]:
    """A registered score on "a photo of a {}" and "not a photo of a {}"."""
    return lambda setting: lambda images: setting.zero_shot.score_features(images.embedding, score)


def gl_mcm(setting: Setting) -> Scorer:
    """Global and local MCM (Miyai et al., 2023): MCM plus the largest softmax probability at any place of the image.

    The places' features are those of `image_tower`: in a ViT, CLIP Surgery's path, where the authors take the last
    block's values.
    """
    text = setting.zero_shot.positive

    def score(images: Images) -> Tensor:
        parts = [part @ text.T for part in images.local.split(512)]  # (n, places, C)
        local = torch.cat([part.softmax(dim=-1).flatten(1).amax(dim=-1) for part in parts])
        return mcm(images.embedding @ text.T) + local

    return score
