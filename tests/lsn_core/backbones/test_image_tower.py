"""What the model saw of an image."""

from __future__ import annotations

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from lsn_core import Backbone
from lsn_core.backbones.image_tower import seen_box, view_image
from lsn_core.heatmaps.methods import fitting_methods


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


# Trunks as MobileCLIP-B's, EVA's (rotary positions) and PE-Core's (those, and an attention pool, as SigLIP's has).
@pytest.mark.parametrize(
    ("trunk", "pool", "size"),
    [
        ("vit_tiny_patch16_224", "token", 224),
        ("vit_tiny_patch16_224", "avg", 224),
        ("eva02_tiny_patch14_224", "token", 224),
        ("vit_pe_core_tiny_patch16_384", "map", 384),
    ],
)
def test_a_timm_vit_is_opened_before_its_last_block(trunk: str, pool: str, size: int) -> None:
    torch.manual_seed(0)
    model = open_clip.CustomTextCLIP(
        embed_dim=48,
        vision_cfg={"timm_model_name": trunk, "timm_pool": pool, "timm_proj": "linear", "image_size": size},
        text_cfg={"vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    )
    model.visual.preprocess_cfg = {"size": size}
    backbone = Backbone(model, trunk, open_clip.get_tokenizer("ViT-B-32"))
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 200, 3), dtype=np.uint8))
    view = view_image(backbone, photo)
    torch.testing.assert_close(view.feature, backbone.encode_images([photo])[0], atol=1e-5, rtol=0)
    side = size // (14 if "patch14" in trunk else 16)
    assert view.activations.shape == (192, side, side)
    activations = view.activations[None].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(view.head(activations)[0, 0], activations)
    assert float(gradient.flatten(2).abs().sum(dim=1).min()) > 0  # every place has its say
    assert fitting_methods(view) == ["grad-cam", "grad-cam++", "layer-cam", "eigen-cam"]
