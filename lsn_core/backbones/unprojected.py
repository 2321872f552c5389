"""The stages of an open_clip image tower: its last map, the pooled feature, and the projection to the shared space."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from torch import Tensor

from lsn_core.backbones.blocks import attention_pool_parts, project_feature
from lsn_core.errors import UserError


def pooled_features(visual: Any, pixels: Tensor, name: str) -> Tensor:
    """Features before the projection: pixels (N, 3, H, W) -> (N, P), as they come, not of unit length.

    They still hold what the projection drops because no text asks for it, which scores of the features' own
    distribution live on (ViM, https://arxiv.org/abs/2203.10807; KNN, https://arxiv.org/abs/2204.06507).

    Args:
        visual: the image tower, `Backbone.model.visual`.
        name: the backbone's, for the error.

    Raises:
        UserError: this tower does not keep pooling and projection apart.
    """
    pooled: Tensor | None = None
    if isinstance(visual, VisionTransformer):
        pooled = visual._pool(visual.transformer(visual._embeds(pixels)))[0]
    elif isinstance(visual, ModifiedResNet):
        parts = attention_pool_parts(visual.attnpool, _resnet_map(visual, pixels))
        pooled = F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)[:, 0]
    elif isinstance(visual, TimmModel):
        pooled = visual.trunk(pixels)
        if hasattr(visual.head, "pool"):
            pooled = visual.head.pool(pooled)
    if pooled is None or pooled.ndim != 2:
        raise UserError(
            f"The image tower of {name} has no features before the projection: it does not pool and then project. "
            "Use a score that needs none, or a model such as embedded or ViT-B-16:openai."
        )
    return pooled


def project_pooled(visual: Any, pooled: Tensor) -> Tensor:
    """The rest of the tower behind `pooled_features`: (N, P) -> image features (N, D), unit length, fp32."""
    if isinstance(visual, VisionTransformer):
        projected = project_feature(visual, pooled)
    elif isinstance(visual, ModifiedResNet):
        projected = visual.attnpool.c_proj(pooled)
    else:
        projected = pooled
        for part_name, part in visual.head.named_children():
            projected = projected if part_name == "pool" else part(projected)
    return F.normalize(projected.float(), dim=-1)


def last_map(visual: Any, pixels: Tensor, name: str) -> Tensor:
    """Features before pooling, one for each place of the image: pixels (N, 3, H, W) -> (N, channels, h, w).

    In a convolutional tower it is the last map, in a ViT what the last block leaves at the patches.

    Raises:
        UserError: this tower has no map.
    """
    if isinstance(visual, VisionTransformer):
        height, width = visual.conv1.kernel_size
        grid = (pixels.shape[2] // int(height), pixels.shape[3] // int(width))
        patches: Tensor = visual.transformer(visual._embeds(pixels))[:, 1:]  # (N, h * w, W)
        return patches.transpose(1, 2).unflatten(2, grid)
    found: Tensor | None = None
    if isinstance(visual, ModifiedResNet):
        found = _resnet_map(visual, pixels)
    elif isinstance(visual, TimmModel):
        found = visual.trunk.forward_features(pixels)
        if found.ndim == 4 and found.shape[1] != visual.trunk.num_features:
            found = None  # channels stand last, or the trunk's own classifier still follows
    if found is None or found.ndim != 4:
        raise UserError(
            f"The image tower of {name} has no map of places before its pooling. "
            "Use a convolutional model or a ViT of open_clip's own, such as embedded or ViT-B-16:openai."
        )
    return found


def _resnet_map(visual: ModifiedResNet, pixels: Tensor) -> Tensor:
    x: Tensor = visual.stem(pixels)
    for stage in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
        x = stage(x)
    return x
