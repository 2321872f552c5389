"""Image features before projection and before pooling."""

from __future__ import annotations

import open_clip
import pytest
import torch
from PIL import Image

from lsn_core.backbones.backbone import Backbone
from lsn_core.errors import UserError

TEXT = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 2}
VIT = {"image_size": 32, "layers": 2, "width": 64, "head_width": 16, "patch_size": 8}
TOWERS = {
    "class token": VIT,
    "mean of patches": VIT | {"pool_type": "avg"},
    "norm after pooling": VIT | {"pool_type": "avg", "final_ln_after_pool": True},
    "resnet": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16},
    "timm": {"image_size": 64, "timm_model_name": "resnet10t", "timm_pool": "avg", "timm_proj": "linear"},
    "timm, two layers": {"image_size": 64, "timm_model_name": "resnet10t", "timm_pool": "avg", "timm_proj": "mlp"},
    "timm, attention": {
        "image_size": 224,
        "timm_model_name": "resnet10t",
        "timm_pool": "abs_attn",
        "timm_proj": "linear",
    },
}


def make(vision: dict[str, object]) -> Backbone:
    torch.manual_seed(0)
    model = open_clip.CLIP(embed_dim=48, vision_cfg=vision, text_cfg=TEXT)
    size = vision["image_size"]
    model.visual.preprocess_cfg = {"size": size, "mode": "RGB", "interpolation": "bicubic", "resize_mode": "shortest"}
    return Backbone(model, "random", open_clip.get_tokenizer("ViT-B-32"))


@pytest.fixture
def pictures() -> list[Image.Image]:
    """Five pictures of noise."""
    noise = torch.randint(256, (5, 80, 96, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    return [Image.fromarray(picture.numpy()) for picture in noise]


@pytest.mark.parametrize("tower", TOWERS)
def test_projected_they_are_the_features_of_open_clip(tower: str, pictures: list[Image.Image]) -> None:
    backbone = make(TOWERS[tower])
    pooled = backbone.encode_images_before_projection(pictures, batch_size=2)
    assert pooled.dtype == torch.float32
    pixels = torch.stack([backbone.preprocess(picture) for picture in pictures])
    with torch.no_grad():
        wanted = backbone.model.encode_image(pixels, normalize=True)
    assert (backbone.project_images(pooled) - wanted).abs().max() < 1e-5


def test_the_embedded_tower_pools_by_the_mean_and_projects_by_its_matrix(embedded: Backbone) -> None:
    pictures = [Image.new("RGB", (300, 260), colour) for colour in ("red", "white")]
    pooled, maps = embedded.encode_images_before_projection(pictures), embedded.encode_image_maps(pictures)
    assert pooled.shape[0] == 2 and maps.shape == (*pooled.shape, 7, 7)
    assert (maps.mean(dim=(2, 3)) - pooled).abs().max() < 1e-5
    head = embedded.model.visual.head.proj
    by_hand = pooled @ head.weight.T.cpu() + head.bias.cpu()
    by_hand /= by_hand.square().sum(-1, keepdim=True).sqrt()
    assert (embedded.project_images(pooled) - by_hand).abs().max() < 1e-5
    assert (embedded.encode_images(pictures) - by_hand).abs().max() < 1e-5


def test_maps_lie_as_the_image_does(pictures: list[Image.Image]) -> None:
    vit = make(TOWERS["mean of patches"])
    maps = vit.encode_image_maps(pictures)
    assert maps.shape == (5, 64, 4, 4)
    normed = vit.model.visual.ln_post(maps.flatten(2).transpose(1, 2))  # the mean of the normed places is pooled
    assert (normed.mean(1) - vit.encode_images_before_projection(pictures)).abs().max() < 1e-5
    resnet = make(TOWERS["resnet"])
    maps = resnet.encode_image_maps(pictures)
    assert maps.shape == (5, 512, 2, 2)
    pooled = torch.nn.functional.normalize(resnet.model.visual.attnpool(maps), dim=-1)
    assert (pooled - resnet.encode_images(pictures)).abs().max() < 1e-5


def test_towers_that_cannot_give_them_say_so(pictures: list[Image.Image]) -> None:
    tokens = make(
        {"image_size": 224, "timm_model_name": "vit_tiny_patch16_224", "timm_pool": "", "timm_proj": "linear"}
    )
    assert tokens.encode_images_before_projection(pictures).shape == (5, 192)
    with pytest.raises(UserError, match="random has no map of places"):
        tokens.encode_image_maps(pictures)
    unpooled = make(VIT | {"pool_type": "none"})
    with pytest.raises(UserError, match="random has no features before the projection"):
        unpooled.encode_images_before_projection(pictures)
