"""One forward pass of an image tower over one image that keeps what heat maps need, with no hook on the model.

What is behind the kept activations (pooling and projection, in a ViT the class token's way through the last block) is
cheap, so that any number of prompts can be asked about afterwards, each for one light backward pass. A view belongs to
the request that made it; the shared model is only read, so that requests may run side by side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from PIL import Image
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer as TimmViT
from torch import Tensor

from lsn_core.backbones.backbone import Backbone
from lsn_core.backbones.blocks import attention_pool_parts, finish, is_standard, project, project_feature, split_heads
from lsn_core.backbones.unprojected import last_map
from lsn_core.errors import UserError

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Attention:
    """One attention layer on the way to the image feature.

    Attributes:
        probabilities: of the query positions that count, shape (1, heads, queries, keys).
        values: shape (1, heads, keys, width / heads).
        readout: what the layer attends to, (N, queries, width), -> image features (N, D), unit length.
        patches: which of the keys are places of the image, the others being class tokens.
    """

    probabilities: Tensor
    values: Tensor
    readout: Callable[[Tensor], Tensor]
    patches: slice


@dataclass(frozen=True)
class View:
    """What one forward pass over one image leaves.

    Attributes:
        feature: the image feature, shape (D,), fp32, unit length; the one that `Backbone.encode_images` gives.
        activations: of the target layer, shape (channels, h, w): the last map of a convolutional tower; in a ViT the
            patch tokens as the last block's attention reads them.
        head: activations (N, channels, h, w) -> image features (N, D), unit length; differentiable.
        attention: layers for methods that follow the attention; empty in towers without any.
        patch_features: (h, w, D), what each place says by itself in the space of the texts; longer where it says more.
            None where the tower's pooling cannot be applied to one place.
        box: left, top, right, bottom of what the model saw, in pixels of the image; it reaches beyond the image where
            the model saw a margin.
    """

    feature: Tensor
    activations: Tensor
    head: Callable[[Tensor], Tensor]
    attention: tuple[Attention, ...]
    patch_features: Tensor | None
    box: Box


@torch.no_grad()
def view_image(backbone: Backbone, image: Image.Image) -> View:
    """Runs the image tower once.

    Args:
        image: an upright RGB picture (see `images.open_image`).

    Raises:
        UserError: this kind of image tower is not known here.
    """
    visual = backbone.model.visual
    pixels = backbone.preprocess(image)[None].to(backbone.device)  # (1, 3, H, W)
    box = seen_box(image.size, visual.preprocess_cfg)
    if isinstance(visual, VisionTransformer):
        return _view_vit(visual, pixels, box, backbone.name)
    if isinstance(visual, ModifiedResNet):
        return _view_resnet(visual, pixels, box, backbone.name)
    if isinstance(visual, TimmModel):
        return _view_timm(visual, pixels, box, backbone.name)
    raise UserError(f"Heat maps do not know the image tower of {backbone.name}, a {type(visual).__name__}.")


def seen_box(size: tuple[int, int], settings: dict[str, Any]) -> Box:
    """The part of an image that preprocessing shows to the model.

    Args:
        size: width and height of the image, in pixels.
        settings: open_clip's preprocess_cfg: `size` and `resize_mode` ("shortest" cuts out the middle, "longest" adds a
            margin, "squash" shows all of it).
    """
    width, height = size
    wanted = settings.get("size", 224)
    out_height, out_width = (wanted, wanted) if isinstance(wanted, int) else wanted
    mode = settings.get("resize_mode") or "shortest"
    if mode == "squash":
        return 0.0, 0.0, float(width), float(height)
    scale = (min if mode == "longest" else max)(out_width / width, out_height / height)
    seen_width, seen_height = out_width / scale, out_height / scale
    left, top = (width - seen_width) / 2, (height - seen_height) / 2
    return left, top, left + seen_width, top + seen_height


# -- ViT ---------------------------------------------------------------------------------------------------------------


def _view_vit(visual: VisionTransformer, pixels: Tensor, box: Box, name: str) -> View:
    blocks: list[Any] = list(visual.transformer.resblocks)
    if not all(is_standard(block) for block in blocks):
        raise UserError(f"Heat maps do not know the attention blocks of {name}'s image tower.")
    grid = (pixels.shape[2] // visual.conv1.kernel_size[0], pixels.shape[3] // visual.conv1.kernel_size[1])
    attentional = visual.attn_pool is not None
    # Where the class token alone is read, nothing else needs to be run behind the attention.
    rows = slice(0, 1) if not attentional and visual.pool_type == "tok" else slice(None)
    x = visual._embeds(pixels)  # (1, 1 + h * w, W)
    layers = []
    dense: Tensor | None = None
    for i, block in enumerate(blocks):
        normed = block.ln_1(x)
        q, k, v = split_heads(block, project(block, normed), 3)  # (1, heads, n, W / heads)
        if i >= len(blocks) // 2:  # CLIP Surgery's second path: values attend to values, without the MLPs
            own = F.scaled_dot_product_attention(v, v, v).transpose(1, 2).flatten(2)
            dense = (x if dense is None else dense) + block.ls_1(block.attn.out_proj(own))
        probabilities = (q[:, :, rows] @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(dim=-1)
        readout = _vit_readout(visual, block, x[:, rows])
        layers.append(Attention(probabilities, v, readout, slice(1, None)))
        last = x
        if block is not blocks[-1]:
            x = finish(block, x, F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
    block, residual = blocks[-1], last[:, rows]
    class_token = normed[:, :1]

    def head(activations: Tensor) -> Tensor:
        tokens = activations.flatten(2).transpose(1, 2)  # (N, h * w, W)
        tokens = torch.cat([class_token.expand(len(tokens), -1, -1), tokens], dim=1)
        (q,) = split_heads(block, project(block, tokens[:, rows], last=1), 1)
        k, v = split_heads(block, project(block, tokens, first=1), 2)
        return _vit_readout(visual, block, residual)(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    activations = normed[0, 1:].T.unflatten(1, grid)
    patches = None
    if not attentional:
        assert dense is not None
        patches = project_feature(visual, visual.ln_post(dense[0, 1:])).float().unflatten(0, grid)
    return View(head(activations[None])[0], activations, head, tuple(layers), patches, box)


def _vit_readout(visual: VisionTransformer, block: Any, residual: Tensor) -> Callable[[Tensor], Tensor]:
    def readout(attended: Tensor) -> Tensor:
        x = finish(block, residual.expand(len(attended), -1, -1), attended)
        pooled = visual._pool(x)[0]
        return F.normalize(project_feature(visual, pooled).float(), dim=-1)

    return readout


# -- ModifiedResNet ----------------------------------------------------------------------------------------------------


def _view_resnet(visual: ModifiedResNet, pixels: Tensor, box: Box, name: str) -> View:
    x = last_map(visual, pixels, name)
    pool = visual.attnpool

    def readout(attended: Tensor) -> Tensor:
        return F.normalize(pool.c_proj(attended[:, 0]).float(), dim=-1)

    def head(activations: Tensor) -> Tensor:
        return readout(
            F.scaled_dot_product_attention(*attention_pool_parts(pool, activations)).transpose(1, 2).flatten(2)
        )

    q, k, v = attention_pool_parts(pool, x)
    probabilities = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(dim=-1)
    patches = pool.c_proj(v[0, :, 1:].transpose(0, 1).flatten(1)).float()
    layer = Attention(probabilities, v, readout, slice(1, None))
    return View(head(x)[0], x[0], head, (layer,), patches.unflatten(0, x.shape[2:]), box)


# -- timm --------------------------------------------------------------------------------------------------------------


def _view_timm(visual: TimmModel, pixels: Tensor, box: Box, name: str) -> View:
    if isinstance(visual.trunk, TimmViT | Eva):
        return _view_timm_vit(visual, pixels, box, name)
    x = visual.trunk.forward_features(pixels)
    if x.ndim != 4 or x.shape[1] != visual.trunk.num_features:
        raise UserError(
            f"Heat maps of timm towers need a convolutional trunk or a ViT, and that of {name} is {tuple(x.shape[1:])}."
        )

    def pool(activations: Tensor) -> Tensor:
        return visual.head(visual.trunk.forward_head(activations)).float()

    def head(activations: Tensor) -> Tensor:
        return F.normalize(pool(activations), dim=-1)

    patches = None
    if not hasattr(visual.head, "pool"):  # an attention pool knows one size of map only
        places = x[0].flatten(1).T[:, :, None, None]  # (h * w, channels, 1, 1)
        patches = pool(places).unflatten(0, x.shape[2:])
    return View(head(x)[0], x[0], head, (), patches, box)


def _view_timm_vit(visual: TimmModel, pixels: Tensor, box: Box, name: str) -> View:
    """The activations are what the last block gets at the patches: what it leaves there may not be read any more."""
    trunk: Any = visual.trunk
    blocks = list(trunk.blocks)
    if len(blocks) < 2 or getattr(trunk, "rope_mixed", False):
        raise UserError(f"Heat maps do not know the blocks of {name}'s image tower.")
    (found,) = trunk.forward_intermediates(
        pixels, indices=[len(blocks) - 2], return_prefix_tokens=True, output_fmt="NCHW", intermediates_only=True
    )
    activations, before = found if isinstance(found, tuple) else (found, pixels.new_zeros(1, 0, found.shape[1]))
    # Rotary positions, which every block of such a tower reads anew.
    options = {"rope": trunk._pos_embed(trunk.patch_embed(pixels))[1]} if isinstance(trunk, Eva) else {}

    def head(activations: Tensor) -> Tensor:
        tokens = activations.flatten(2).transpose(1, 2)  # (N, h * w, W)
        tokens = torch.cat([before.expand(len(tokens), -1, -1), tokens], dim=1)
        pooled = trunk.forward_head(trunk.norm(blocks[-1](tokens, **options)))
        return F.normalize(visual.head(pooled).float(), dim=-1)

    return View(head(activations)[0], activations[0], head, (), None, box)
