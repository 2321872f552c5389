"""Heat maps: equal to formulas worked out in NumPy, the same beside other requests, clear about what can't be done."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from math import erf
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from support import random_backbone

from lsn_core import Backbone, Detector, UserError
from lsn_core.backbones.image_tower import View, view_image
from lsn_core.data.images import open_image
from lsn_core.heatmaps.maps import explain, heat_maps
from lsn_core.heatmaps.methods import METHODS, fitting_methods
from lsn_core.heatmaps.targets import TARGETS, ImagePrompts, Target, prompt_targets, score_target
from lsn_core.scores.lsn import lsn

TEXT = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 2}
KINDS = ("vit", "vit-avg", "resnet", "efficientnet", "convnext")


def tiny(kind: str) -> Backbone:
    """A tiny open_clip model with that kind of image tower and random weights."""
    vision = {
        "vit": {"image_size": 32, "layers": 3, "width": 64, "head_width": 16, "patch_size": 8},
        "vit-avg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 16, "patch_size": 16, "pool_type": "avg"},
        "resnet": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 64},
        "efficientnet": {"image_size": 96, "timm_model_name": "test_efficientnet", "timm_pool": "avg"},
        "convnext": {"image_size": 96, "timm_model_name": "test_convnext", "timm_pool": "avg"},
    }[kind]
    torch.manual_seed(KINDS.index(kind))
    model = open_clip.CLIP(embed_dim=32, vision_cfg=vision, text_cfg=TEXT)
    size = vision["image_size"]
    model.visual.preprocess_cfg = {"size": size, "mode": "RGB", "interpolation": "bicubic", "resize_mode": "shortest"}
    return Backbone(model, f"tiny {kind}", open_clip.get_tokenizer("ViT-B-32"))


@pytest.fixture(scope="module", params=KINDS)
def backbone(request: pytest.FixtureRequest) -> Backbone:
    return tiny(request.param)


@pytest.fixture(scope="module")
def photo(examples: Path) -> Image.Image:
    return open_image(examples / "dog.jpg")


def random_targets(dim: int, count: int = 3) -> list[Target]:
    directions = F.normalize(torch.randn(count, dim, generator=torch.Generator().manual_seed(4)), dim=-1)
    return [Target(str(i), u, 0.0) for i, u in enumerate(directions)]


# -- the same, worked out in NumPy -------------------------------------------------------------------------------------


@cache
def array(parameter: torch.Tensor) -> np.ndarray:
    return parameter.detach().double().numpy()


def linear(layer: torch.nn.Linear, x: np.ndarray) -> np.ndarray:
    return x @ array(layer.weight).T + (0.0 if layer.bias is None else array(layer.bias))


def layer_norm(norm: torch.nn.LayerNorm, x: np.ndarray) -> np.ndarray:
    x = x - x.mean(axis=-1, keepdims=True)
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + norm.eps) * array(norm.weight) + array(norm.bias)


def gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.vectorize(erf)(x / np.sqrt(2)))


def attend(q: np.ndarray, k: np.ndarray, v: np.ndarray, heads: int) -> np.ndarray:
    """One query (W,) over keys and values (n, W)."""
    parts = []
    for own_q, own_k, own_v in zip(*(np.split(x, heads, axis=-1) for x in (q, k, v)), strict=True):
        weights = np.exp(own_k @ own_q / np.sqrt(len(own_q)))
        parts.append(weights / weights.sum() @ own_v)
    return np.concatenate(parts)


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x)


def head_of_vit(visual, class_token: np.ndarray, residual: np.ndarray, a: np.ndarray) -> np.ndarray:
    block = visual.transformer.resblocks[-1]
    tokens = np.vstack([class_token, a.reshape(len(a), -1).T])
    weight, bias = array(block.attn.in_proj_weight), array(block.attn.in_proj_bias)
    q, k, v = (tokens @ w.T + b for w, b in zip(np.split(weight, 3), np.split(bias, 3), strict=True))
    x = residual + linear(block.attn.out_proj, attend(q[0], k, v, block.attn.num_heads))
    x = x + linear(block.mlp.c_proj, gelu(linear(block.mlp.c_fc, layer_norm(block.ln_2, x))))
    return unit(layer_norm(visual.ln_post, x) @ array(visual.proj))


def head_of_resnet(visual, a: np.ndarray) -> np.ndarray:
    pool = visual.attnpool
    tokens = a.reshape(len(a), -1).T
    tokens = np.vstack([tokens.mean(axis=0), tokens]) + array(pool.positional_embedding)
    q, k, v = linear(pool.q_proj, tokens[0]), linear(pool.k_proj, tokens), linear(pool.v_proj, tokens)
    return unit(linear(pool.c_proj, attend(q, k, v, pool.num_heads)))


def head_of_timm(visual, a: np.ndarray) -> np.ndarray:
    mean = a.mean(axis=(1, 2))
    norm = getattr(visual.trunk.head, "norm", None) if hasattr(visual.trunk, "head") else None
    return unit(linear(visual.head.proj, mean if norm is None else layer_norm(norm, mean)))


def head_in_numpy(backbone: Backbone, photo: Image.Image):
    visual = backbone.model.visual
    if backbone.name == "tiny vit":
        # What the last block reads besides the patches, by open_clip's own forward pass.
        kept = {}
        block = visual.transformer.resblocks[-1]
        hooks = [
            block.register_forward_pre_hook(lambda module, inputs: kept.update(x=inputs[0])),
            block.ln_1.register_forward_hook(lambda module, inputs, output: kept.update(normed=output)),
        ]
        with torch.no_grad():
            backbone.model.encode_image(backbone.preprocess(photo)[None])
        for hook in hooks:
            hook.remove()
        class_token, residual = array(kept["normed"][0, 0]), array(kept["x"][0, 0])
        return lambda a: head_of_vit(visual, class_token, residual, a)
    return lambda a: (head_of_resnet if backbone.name == "tiny resnet" else head_of_timm)(visual, a)


def derivative(function, a: np.ndarray, step: float = 1e-5) -> np.ndarray:
    """Of a function's value, a vector, by each number in `a`: central differences, the vector last."""
    found = np.empty((*a.shape, len(function(a))))
    for place in np.ndindex(a.shape):
        up, down = a.copy(), a.copy()
        up[place] += step
        down[place] -= step
        found[place] = (function(up) - function(down)) / (2 * step)
    return found


@pytest.mark.parametrize("kind", ["vit", "resnet", "efficientnet", "convnext"])
def test_grad_cam_equals_numpy(kind: str, photo: Image.Image) -> None:
    backbone = tiny(kind)
    view = view_image(backbone, photo)
    head = head_in_numpy(backbone, photo)
    a = array(view.activations)
    np.testing.assert_allclose(head(a), view.feature.numpy(), atol=1e-5)
    by_place = derivative(head, a)  # (C, h, w, D)
    targets = random_targets(32, 2)
    for signed in (True, False):
        directions = np.array([array(target.direction) for target in targets])
        weights = np.einsum("chwd,nd->nchw", by_place, directions).mean(axis=(2, 3))
        wanted = np.einsum("nc,chw->nhw", weights, a)
        found = heat_maps(view, targets, "grad-cam", signed=signed).values
        largest = np.abs(wanted).max()
        assert largest > 0
        np.testing.assert_allclose(found, wanted if signed else np.maximum(wanted, 0), rtol=1e-3, atol=1e-4 * largest)


def test_legrad_equals_numpy(photo: Image.Image) -> None:
    backbone = tiny("resnet")
    view = view_image(backbone, photo)
    (layer,) = view.attention
    (target,) = random_targets(32, 1)
    values = array(layer.values[0])  # (heads, keys, width / heads)
    pool = backbone.model.visual.attnpool

    def feature(p: np.ndarray) -> np.ndarray:  # p (heads, 1, keys)
        return unit(linear(pool.c_proj, np.concatenate([p[h, 0] @ values[h] for h in range(len(values))])))

    by_attention = derivative(feature, array(layer.probabilities[0])) @ array(target.direction)
    wanted = np.maximum(by_attention, 0.0).mean(axis=(0, 1))[1:].reshape(view.activations.shape[1:])
    np.testing.assert_allclose(heat_maps(view, [target], "legrad").values[0], wanted, rtol=1e-3, atol=1e-6)


# -- what every tower gives --------------------------------------------------------------------------------------------


def test_a_look_gives_the_backbones_own_feature(backbone: Backbone, photo: Image.Image) -> None:
    view = view_image(backbone, photo)
    torch.testing.assert_close(view.feature, backbone.encode_images([photo])[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(view.head(view.activations[None])[0], view.feature, atol=1e-5, rtol=0)
    for layer in view.attention[-1:]:  # the last layer's read-out is the feature itself
        attended = (layer.probabilities @ layer.values).transpose(1, 2).flatten(2)
        torch.testing.assert_close(layer.readout(attended)[0], view.feature, atol=1e-5, rtol=0)


@pytest.mark.parametrize("architecture", ["ViT-B-16-quickgelu", "RN50x4", "coca_ViT-B-32"])
def test_real_architectures_are_looked_into(architecture: str, photo: Image.Image) -> None:
    backbone = random_backbone(architecture)
    view = view_image(backbone, photo)
    torch.testing.assert_close(view.feature, backbone.encode_images([photo])[0], atol=1e-4, rtol=0)
    for method in fitting_methods(view):
        maps = heat_maps(view, random_targets(len(view.feature), 2), method)
        assert maps.values.shape == (2, *view.activations.shape[1:]) and np.isfinite(maps.values).all()


def test_the_grid_follows_the_patches(photo: Image.Image) -> None:
    assert view_image(tiny("vit"), photo).activations.shape == (64, 4, 4)
    assert view_image(tiny("vit-avg"), photo).activations.shape == (64, 2, 2)


def test_many_prompts_equal_one_at_a_time(backbone: Backbone, photo: Image.Image) -> None:
    view = view_image(backbone, photo)
    targets = random_targets(32)
    for method in fitting_methods(view):
        together = heat_maps(view, targets, method, torch.eye(32)[:2]).values
        alone = [heat_maps(view, [target], method, torch.eye(32)[:2]).values[0] for target in targets]
        np.testing.assert_allclose(together, alone, atol=1e-6 + 1e-4 * together.max())


def test_eight_requests_at_once_equal_one_at_a_time(backbone: Backbone, photo: Image.Image) -> None:
    pictures = [photo.rotate(45 * i) for i in range(8)]
    targets = random_targets(32)

    def ask(picture: Image.Image) -> list[np.ndarray]:
        view = view_image(backbone, picture)
        return [heat_maps(view, targets, method).values for method in fitting_methods(view)]

    expected = [ask(picture) for picture in pictures]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, pictures))
    for one, other in zip(found, expected, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6 + 1e-4 * np.abs(b).max())


def test_nothing_stays_on_the_model_after_an_error(backbone: Backbone, photo: Image.Image) -> None:
    view = view_image(backbone, photo)
    with pytest.raises(UserError, match=r"Known methods: grad-cam, .*clip-surgery"):
        heat_maps(view, random_targets(32), "grad-kam")
    for method in METHODS:
        with pytest.raises(UserError, match="another model"):
            heat_maps(view, random_targets(31), method)
    for module in backbone.model.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks and not module._backward_hooks
    assert all(parameter.grad is None for parameter in backbone.model.parameters())


def test_towers_without_attention_say_so(photo: Image.Image) -> None:
    view = view_image(tiny("efficientnet"), photo)
    assert "legrad" not in fitting_methods(view)
    with pytest.raises(UserError, match="has none"):
        heat_maps(view, random_targets(32), "legrad")


# -- what is asked of a detector ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def detector(embedded: Backbone) -> Detector:
    return Detector.zero_shot(embedded, ["dog", "cat", "sports car"])


@pytest.fixture(scope="module")
def dog_view(embedded: Backbone, photo: Image.Image) -> View:
    return view_image(embedded, photo)


def test_a_class_has_its_positive_and_each_negative_prompt(detector: Detector, dog_view: View) -> None:
    three = Detector(
        detector.backbone,
        detector.class_names,
        detector.positive,
        F.normalize(torch.randn(3, 3, detector.backbone.dim), dim=-1),
    )
    targets = prompt_targets(ImagePrompts.of(three, dog_view))
    assert [target.label for target in targets] == ["dog", *(f"learned no to dog ({k})" for k in (1, 2, 3))]
    positive, negative = three.cosines(dog_view.feature[None])
    wanted = torch.cat([positive[0, :1], negative[0, :, 0]])
    torch.testing.assert_close(torch.tensor([target.value for target in targets]), wanted)
    assert prompt_targets(ImagePrompts.of(three, dog_view), "Sports car")[0].label == "sports car"
    with pytest.raises(UserError, match="no class 'horse'"):
        prompt_targets(ImagePrompts.of(three, dog_view), "horse")


def test_the_scores_direction_is_its_gradient(detector: Detector, dog_view: View) -> None:
    (target,) = score_target(ImagePrompts.of(detector.with_score("lsn"), dog_view))
    own = detector.backbone.temperature

    def score(feature: torch.Tensor) -> float:
        cosines = [(x.double().cpu() @ feature)[None] for x in (detector.positive, detector.negative)]
        return float(lsn(*cosines, 100 * own, 500 * own))

    feature = dog_view.feature.double().cpu()
    assert target.value == pytest.approx(score(feature), abs=1e-6)
    for place in (0, 100, 255):
        step = torch.zeros(detector.backbone.dim, dtype=torch.double)
        step[place] = 1e-4
        slope = (score(feature + step) - score(feature - step)) / 2e-4
        assert float(target.direction[place]) == pytest.approx(slope, rel=1e-2, abs=1e-6)


def test_what_lowers_a_target_can_be_left_out(detector: Detector, dog_view: View) -> None:
    for target in ("prompts", "difference", "score"):
        maps = explain(detector, dog_view, target=target, method="grad-cam")
        assert maps.signed and maps.values.min() < 0 and maps.limit == np.abs(maps.values).max()
        raising = explain(detector, dog_view, target=target, method="grad-cam", signed=False)
        np.testing.assert_array_equal(raising.values, np.maximum(maps.values, 0))
    with pytest.raises(UserError, match="Known targets"):
        explain(detector, dog_view, target="all")


@pytest.mark.parametrize("target", TARGETS)
def test_prompts_are_made_once_for_each_map(
    detector: Detector, dog_view: View, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    made = Detector.text_features
    monkeypatch.setattr(Detector, "text_features", lambda self, features: asked.append(1) or made(self, features))
    explain(detector, dog_view, target=target)
    assert len(asked) == 1  # with CoCoOp, each time costs a run of the text tower


def test_without_negative_prompts_there_is_no_difference(detector: Detector, dog_view: View) -> None:
    bare = Detector(detector.backbone, detector.class_names, detector.positive, detector.negative[:0], score_name="mcm")
    assert len(explain(bare, dog_view).targets) == 1
    with pytest.raises(UserError, match="no negative prompts"):
        explain(bare, dog_view, target="difference")


def test_the_named_thing_is_found_beside_another(embedded: Backbone, examples: Path) -> None:
    both = Image.new("RGB", (224, 224))
    for place, name in enumerate(("zebra", "sports_car")):
        both.paste(Image.open(examples / f"{name}.jpg").crop((75, 0, 224, 299)).resize((112, 224)), (112 * place, 0))
    detector = Detector.zero_shot(embedded, ["zebra", "sports car"])
    view = view_image(embedded, both)
    left, right = (explain(detector, view, name, signed=False).values[0] for name in ("zebra", "sports car"))
    assert left[:, :3].sum() > 2 * left[:, 4:].sum()
    assert right[:, 4:].sum() > 2 * right[:, :3].sum()


def test_clip_surgery_shares_out_the_answer_of_a_linear_head(photo: Image.Image) -> None:
    backbone = tiny("efficientnet")
    view = view_image(backbone, photo)
    (target,) = random_targets(32, 1)
    reference = F.normalize(torch.randn(3, 32, generator=torch.Generator().manual_seed(8)), dim=-1)
    projection = array(backbone.model.visual.head.proj.weight)  # (D, channels); this head has no bias
    direction = array(target.direction) - array(reference).mean(axis=0)
    wanted = np.einsum("d,dc,chw->hw", direction, projection, array(view.activations))
    (found,) = heat_maps(view, [target], "clip-surgery", reference).values
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-5)
    pooled = projection @ array(view.activations).mean(axis=(1, 2))  # what the head says of all places together
    assert found.mean() == pytest.approx(direction @ pooled, rel=1e-3)
