"""Backbones: the prompted text tower is open_clip's own, and what cannot work is refused in words."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors.torch import save_file
from support import REPO, random_backbone

from lsn_core import Backbone, Detector, UserError, load_backbone
from lsn_core.backbones.loading import list_pairs, resolve_device
from lsn_core.prompts.learned import NameTokens
from lsn_core.shipped import EMBEDDED_DIR

TEXTS = ["a", "a photo of a cat", "not a photo of a very small dog on a green lawn.", "word " * 74]
# A text tower under model.text (CustomTextCLIP) is made of an ordinary architecture.
ARCHITECTURES = [
    ("ViT-B-32", {}),
    ("ViT-B-16-quickgelu", {}),
    ("RN50", {}),
    ("RN50x4", {}),
    ("ViT-B-32", {"force_custom_text": True}),
]


@pytest.mark.parametrize(("arch", "options"), ARCHITECTURES, ids=lambda value: str(value))
def test_prompted_tower_equals_open_clip(arch: str, options: dict[str, bool]) -> None:
    backbone = random_backbone(arch, **options)
    _assert_prompting_is_exact(backbone)
    assert hasattr(backbone.model, "text") == bool(options)


def test_prompted_tower_equals_open_clip_embedded(embedded: Backbone) -> None:
    _assert_prompting_is_exact(embedded)


def _assert_prompting_is_exact(backbone: Backbone) -> None:
    for texts in ([TEXTS[0]], TEXTS[:3], TEXTS):  # cut at 3, at some and at all 77 positions
        tokens = open_clip.tokenize(texts).to(backbone.device)
        with torch.no_grad():
            expected = F.normalize(backbone.model.encode_text(tokens), dim=-1).cpu()
            found = backbone.encode_prompts(backbone.embed_tokens(tokens), tokens.argmax(-1)).cpu()
        assert torch.allclose(found, expected, atol=1e-5)
        assert torch.allclose(backbone.encode_texts(texts), expected, atol=1e-5)
        assert found.dtype == torch.float32


def test_eos_pooling_is_followed() -> None:
    model = open_clip.CustomTextCLIP(
        embed_dim=32,
        vision_cfg={"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
        text_cfg={"vocab_size": 200, "width": 32, "heads": 2, "layers": 2, "pool_type": "eos", "eos_id": 7},
    )
    model.visual.preprocess_cfg = {"size": 32}
    backbone = Backbone(model, "eos", open_clip.tokenize)
    tokens = torch.tensor([[1, 199, 7] + [0] * 74, [1, 20, 30, 40, 7] + [0] * 72])  # the largest id is not the end
    with torch.no_grad():
        expected = F.normalize(model.encode_text(tokens), dim=-1)
    found = backbone.encode_prompts(backbone.embed_tokens(tokens), backbone.find_eot(tokens))
    assert torch.allclose(found, expected, atol=1e-5)


def test_gradients_reach_the_prompt_and_nothing_else(tiny_backbone: Backbone) -> None:
    tokens = tiny_backbone.tokenize(["a photo of a cat"])
    prompt = tiny_backbone.embed_tokens(tokens).requires_grad_(True)
    eot = int(tiny_backbone.find_eot(tokens))
    tiny_backbone.encode_prompts(prompt, tiny_backbone.find_eot(tokens))[0, 0].backward()
    assert prompt.grad is not None
    assert bool((prompt.grad[0, : eot + 1].abs().sum(-1) > 0).all())
    assert float(prompt.grad[0, eot + 1 :].abs().sum()) == 0.0
    assert all(parameter.grad is None for parameter in tiny_backbone.model.parameters())


def test_images_are_encoded_as_open_clip_does(tiny_backbone: Backbone, examples: Path) -> None:
    pictures = [Image.open(examples / f"{name}.jpg").convert("RGB") for name in ("dog", "cat", "zebra")]
    with torch.no_grad():
        pixels = torch.stack([tiny_backbone.preprocess(picture) for picture in pictures])
        expected = F.normalize(tiny_backbone.model.encode_image(pixels.to(tiny_backbone.device)), dim=-1).cpu()
    assert torch.allclose(tiny_backbone.encode_images(pictures, batch_size=2), expected, atol=1e-5)
    assert tiny_backbone.encode_images([]).shape == (0, 64)
    assert tiny_backbone.encode_texts([]).shape == (0, 64)


def stripes(width: int, height: int) -> Image.Image:
    """A picture that differs from place to place."""
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x * 7 % 256, y * 5 % 256, (x + y) * 3 % 256], axis=-1).astype(np.uint8))


def resizing(mode: str, size: int = 32) -> Backbone:
    """A tiny backbone that prepares pictures in this way."""
    vision = {"image_size": size, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
    text = {"vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    model = open_clip.CLIP(embed_dim=32, vision_cfg=vision, text_cfg=text)
    model.visual.preprocess_cfg = {"size": size, "interpolation": "bicubic", "resize_mode": mode}
    return Backbone(model, f"resizing {mode}", open_clip.tokenize)


@pytest.mark.parametrize("size", [(20, 2000), (2000, 20), (16, 16 * 17 + 1), (64, 30), (7, 112)])
@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
def test_thin_pictures_are_prepared_as_if_resized_whole(size: tuple[int, int], mode: str) -> None:
    backbone = resizing(mode)
    whole = image_transform_v2(PreprocessCfg(**backbone.model.visual.preprocess_cfg), is_train=False)
    picture = stripes(*size)
    if mode == "longest" and max(size) > 64 * min(size):  # open_clip fails where less than half a pixel is left
        expected = whole(picture.resize((1, 32) if size[0] < size[1] else (32, 1)))
    else:
        expected = whole(picture)
    found = backbone.preprocess(picture)
    assert found.shape == (3, 32, 32)
    assert float((found - expected).abs().max()) < 0.05 * float(expected.max() - expected.min())


def test_the_longest_pictures_take_little_memory() -> None:
    script = (
        "import resource\nfrom PIL import Image\nfrom test_backbone import resizing\n"
        "backbones = [resizing(mode, 224) for mode in ('shortest', 'longest', 'squash')]\n"
        "pictures = [Image.new('RGB', size) for size in ((1, 60_000), (60_000, 1), (9_000_000, 1), (2, 1_000_000))]\n"
        "backbones[0].encode_images([Image.new('RGB', (300, 200))] * len(pictures))\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "assert all(backbone.encode_images(pictures).isfinite().all() for backbone in backbones)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    paths = os.pathsep.join(map(str, (REPO, REPO / "tests", Path(__file__).parent)))
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": paths}
    )
    assert done.returncode == 0, done.stderr
    kilobytes = int(done.stdout) // (1024 if sys.platform == "darwin" else 1)
    assert kilobytes < 100_000  # resized whole, the first would be 224 x 13 million pixels


def test_a_text_that_does_not_fit_is_refused(tiny_backbone: Backbone) -> None:
    with pytest.raises(UserError, match="tokens"):
        tiny_backbone.encode_texts(["word " * 76])


def test_a_tower_of_an_unknown_kind_is_refused_but_still_reads_texts() -> None:
    class Own(torch.nn.Module):
        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return torch.ones(len(tokens), 32)

    model = open_clip.CustomTextCLIP(
        embed_dim=32,
        vision_cfg={"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
        text_cfg={"vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    )
    model.visual.preprocess_cfg = {"size": 32}
    model.text = Own()
    backbone = Backbone(model, "other", open_clip.get_tokenizer("ViT-B-32"))
    assert not backbone.promptable
    with pytest.raises(UserError, match="it is a Own"):
        backbone.encode_prompts(torch.zeros(1, 4, 32), torch.tensor([3]))
    with pytest.raises(UserError, match="it is a Own"):
        _ = backbone.width
    assert backbone.encode_texts(["a cat"]).shape == (1, 32)


def test_a_tower_that_does_not_pool_is_refused() -> None:
    model = open_clip.CustomTextCLIP(
        embed_dim=32,
        vision_cfg={"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
        text_cfg={"vocab_size": 49408, "width": 32, "heads": 2, "layers": 1, "pool_type": "none"},
    )
    model.visual.preprocess_cfg = {"size": 32}
    with pytest.raises(UserError, match="does not pool"):
        _ = Backbone(model, "other", open_clip.get_tokenizer("ViT-B-32")).width


def test_hugging_face_text_towers_are_refused() -> None:
    from open_clip.hf_model import HFTextEncoder

    class Wrapped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.visual = torch.nn.Identity()
            self.visual.preprocess_cfg = {"size": 32}  # type: ignore[assignment]
            self.text = HFTextEncoder.__new__(HFTextEncoder)
            torch.nn.Module.__init__(self.text)
            self.logit_scale = torch.nn.Parameter(torch.zeros(()))

    with pytest.raises(UserError, match="Hugging Face encoder"):
        Backbone(Wrapped(), "hf", open_clip.tokenize).embed_tokens(torch.zeros(1, 2, dtype=torch.long))


def test_its_memory_is_free_as_soon_as_it_is_no_longer_needed() -> None:
    backbone = resizing("shortest")
    detector = Detector.zero_shot(backbone, ["dog", "cat"])
    detector.predict([stripes(40, 30)])
    assert backbone.fingerprint and NameTokens.of(backbone, ["dog"], 4)
    model = weakref.ref(backbone.model)
    gc.collect()
    gc.disable()  # what refers to itself in a circle would wait for it
    try:
        del backbone, detector
        assert model() is None
    finally:
        gc.enable()


def test_fingerprint_follows_weights_and_preprocessing(tiny_backbone: Backbone) -> None:
    same = Backbone(tiny_backbone.model, "another name", tiny_backbone.tokenizer, tiny_backbone.device)
    assert same.fingerprint == tiny_backbone.fingerprint
    other = random_backbone("RN50")
    before = Backbone(other.model, "x", other.tokenizer)
    first = before.fingerprint
    with torch.no_grad():
        other.model.logit_scale += 1e-3
    assert Backbone(other.model, "x", other.tokenizer).fingerprint != first
    other.model.visual.preprocess_cfg = {**other.model.visual.preprocess_cfg, "interpolation": "bilinear"}
    assert Backbone(other.model, "x", other.tokenizer).fingerprint not in (
        first,
        Backbone(other.model, "x", other.tokenizer).weights_hash,
    )


def test_quickgelu_is_taken_from_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, object] = {}

    def create(name: str, **options: object) -> None:
        seen.update(options, name=name)
        raise RuntimeError("stop here")

    monkeypatch.setattr(open_clip, "create_model", create)
    for pair, expected in (("ViT-B-32:openai", True), ("ViT-B-32:laion2b_s34b_b79k", False), ("RN50:openai", True)):
        with pytest.raises(UserError, match="stop here"):
            load_backbone(pair, device="cpu")
        assert seen["quick_gelu"] is expected
        assert seen["weights_only"] is True
        assert seen["require_pretrained"] is True


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ViT-B-61:openai", ["ViT-B-16", "ARCH:TAG"]),
        ("ViT-B-16", ["openai", "ViT-B-16:TAG"]),
        ("ViT-B-16:nonsense", ["openai", "nonsense"]),
        ("local-dir:/no/such/folder", ["/no/such/folder", "open_clip_config.json"]),
        ("", ["embedded"]),
    ],
)
def test_unknown_names_say_what_is_known(name: str, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        load_backbone(name, device="cpu")
    for word in words:
        assert word in str(caught.value)


def test_no_network_is_said_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr("lsn_core.backbones.loading.socket.getaddrinfo", unreachable)
    monkeypatch.setattr("lsn_core.backbones.loading.getproxies", dict)
    for name in ("ViT-B-32:openai", "hf-hub:someone/something"):
        with pytest.raises(UserError) as caught:
            load_backbone(name, device="cpu", cache_dir=str(tmp_path))
        message = str(caught.value)
        assert name in message
        assert "local-dir:" in message and "embedded" in message


def test_pickled_weights_are_never_read(tmp_path: Path) -> None:
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": {}}))
    torch.save({"weight": torch.zeros(1)}, tmp_path / "open_clip_pytorch_model.bin")
    with pytest.raises(UserError, match="safetensors"):
        load_backbone(f"local-dir:{tmp_path}", device="cpu")


def test_a_hub_model_that_is_only_pickled_is_refused_below_torch_2_10(
    tmp_path: Path, tiny_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = tmp_path / "models--someone--something"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("0123")
    write_folder(cached / "snapshots" / "0123")
    torch.save(tiny_backbone.model.state_dict(), cached / "snapshots" / "0123" / "open_clip_pytorch_model.bin")
    monkeypatch.setattr("lsn_core.backbones.loading.hub.HF_HUB_OFFLINE", True)
    name = "hf-hub:someone/something"
    monkeypatch.setattr("lsn_core.backbones.loading._PICKLES_ARE_SAFE", True)
    assert load_backbone(name, device="cpu", cache_dir=str(tmp_path)).weights_hash == tiny_backbone.weights_hash
    monkeypatch.setattr("lsn_core.backbones.loading._PICKLES_ARE_SAFE", False)
    with pytest.raises(UserError, match="could not be loaded"):
        load_backbone(name, device="cpu", cache_dir=str(tmp_path))


def write_folder(folder: Path) -> None:
    config = {
        "embed_dim": 64,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 16, "patch_size": 8},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 2},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))


def test_local_folder_round_trip(tmp_path: Path, tiny_backbone: Backbone) -> None:
    write_folder(tmp_path)
    tensors = {key: value.contiguous().clone() for key, value in tiny_backbone.model.state_dict().items()}
    save_file(tensors, tmp_path / "open_clip_model.safetensors")
    loaded = load_backbone(f"local-dir:{tmp_path}", device="cpu")
    assert loaded.weights_hash == tiny_backbone.weights_hash
    assert torch.allclose(loaded.encode_texts(["a cat"]), tiny_backbone.encode_texts(["a cat"]), atol=1e-6)
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"damaged")
    with pytest.raises(UserError, match="could not be loaded"):
        load_backbone(f"local-dir:{tmp_path}", device="cpu")


def test_device_names() -> None:
    assert resolve_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(UserError, match="nonsense"):
        resolve_device("nonsense")
    assert "ViT-B-16:openai" in list_pairs()


def test_embedded_checkpoint_is_what_its_card_says(embedded: Backbone) -> None:
    assert (embedded.dim, embedded.width, embedded.context_length) == (512, 320, 77)
    size = (EMBEDDED_DIR / "open_clip_model.safetensors").stat().st_size
    assert size <= 64_000_000
    # The last map of the image tower is reachable, with its grid: heat maps need it.
    maps = embedded.model.visual.trunk.forward_features(torch.zeros(1, 3, 224, 224, device=embedded.device))
    assert maps.shape == (1, 1280, 7, 7)
