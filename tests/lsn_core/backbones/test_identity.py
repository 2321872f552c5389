"""Which function a backbone is: equal weights that compute other features are other backbones."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transformer import QuickGELU
from safetensors.torch import load_file, save_file
from torch import nn

from lsn_core import Backbone
from lsn_core.backbones import identity
from lsn_core.data.feature_cache import DiskFeatureCache, earlier_fingerprint
from lsn_core.prompts import nouns as noun_module
from lsn_core.prompts.nouns import Noun, noun_features

VISION = {"image_size": 32, "layers": 2, "width": 64, "head_width": 16, "patch_size": 8}
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 2}
PREPARED = {"size": 32, "mode": "RGB", "interpolation": "bicubic", "resize_mode": "shortest"}


def tiny(
    vision: dict[str, Any] | None = None,
    text: dict[str, Any] | None = None,
    prepared: dict[str, Any] | None = None,
    tokenizer: Any = None,
    assumed: tuple[str, ...] = (),
    **options: Any,
) -> Backbone:
    """The tiny backbone of the other tests, always with the same weights, run in another way."""
    torch.manual_seed(0)
    model = open_clip.CLIP(embed_dim=64, vision_cfg=VISION | (vision or {}), text_cfg=TEXT | (text or {}), **options)
    model.visual.preprocess_cfg = PREPARED | (prepared or {})
    return Backbone(model, "tiny", tokenizer or open_clip.get_tokenizer("ViT-B-32"), assumed=assumed)


OTHERS: dict[str, Callable[[], Backbone]] = {
    "as it is": tiny,
    "QuickGELU": lambda: tiny(quick_gelu=True),
    "GELU by tanh": lambda: tiny(text={"act_kwargs": {"approximate": "tanh"}}),
    "heads of the image tower": lambda: tiny({"head_width": 32}),
    "heads of the text tower": lambda: tiny(text={"heads": 2}),
    "pooling": lambda: tiny({"pool_type": "avg"}),
    "norm after pooling": lambda: tiny({"final_ln_after_pool": True, "pool_type": "avg"}),
    "epsilon of norms": lambda: tiny(text={"norm_kwargs": {"eps": 1e-3}}),
    "end token": lambda: tiny(text={"pool_type": "eos", "eos_id": 49407}),
    "mean": lambda: tiny(prepared={"mean": (0.5, 0.5, 0.5)}),
    "std": lambda: tiny(prepared={"std": (0.5, 0.5, 0.5)}),
    "interpolation": lambda: tiny(prepared={"interpolation": "bilinear"}),
    "resize mode": lambda: tiny(prepared={"resize_mode": "squash"}),
    "fill colour": lambda: tiny(prepared={"resize_mode": "longest", "fill_color": 255}),
    "tokenizer's cleaning": lambda: tiny(tokenizer=open_clip.get_tokenizer("ViT-B-32", clean="canonicalize")),
    "no causal mask": lambda: tiny(text={"no_causal_mask": True}),
    "precision": lambda: halved(tiny()),
}  # fmt: skip


def halved(backbone: Backbone) -> Backbone:
    return Backbone(backbone.model.bfloat16().float().bfloat16(), backbone.name, backbone.tokenizer)


def test_equal_weights_that_run_differently_are_other_backbones() -> None:
    backbones = {name: make() for name, make in OTHERS.items()}
    assert len({backbone.weights_hash for name, backbone in backbones.items() if name != "precision"}) == 1
    fingerprints = {name: backbone.fingerprint for name, backbone in backbones.items()}
    assert len(set(fingerprints.values())) == len(OTHERS), fingerprints


def test_the_same_function_has_the_same_fingerprint_however_it_came_about() -> None:
    one = tiny()
    assert tiny().fingerprint == one.fingerprint
    assert Backbone(copy.deepcopy(one.model), "another name", one.tokenizer).fingerprint == one.fingerprint
    assert tiny(tokenizer=open_clip.tokenize).settings == one.settings
    quick = tiny()
    for module in list(quick.model.modules()):
        for name, part in module.named_children():
            if isinstance(part, nn.GELU):
                setattr(module, name, QuickGELU())
    swapped = Backbone(quick.model, "quick", quick.tokenizer)
    assert swapped.fingerprint == tiny(quick_gelu=True).fingerprint != one.fingerprint


def test_settings_are_plain_and_readable() -> None:
    settings = tiny(quick_gelu=True).settings
    assert settings["image"]["activation"] == settings["text"]["activation"] == ["QuickGELU"]
    assert settings["image"]["preprocessing"]["interpolation"] == "bicubic"
    assert settings["image"]["precision"] == ["float32"] and settings["text"]["context_length"] == 77
    assert settings["text"]["libraries"] == {"open_clip_torch": open_clip.__version__}
    assert identity.differences(settings, tiny().settings).keys() == {
        "image activation", "image structure", "text activation", "text structure",
    }  # fmt: skip


def test_a_resnet_has_no_choice_of_activation_but_its_texts_have() -> None:
    made = []
    for quick in (False, True):
        torch.manual_seed(0)
        model = open_clip.CLIP(
            64, {"image_size": 32, "layers": [1, 1, 1, 1], "width": 16}, TEXT, quick_gelu=quick
        )  # fmt: skip
        model.visual.preprocess_cfg = PREPARED
        made.append(Backbone(model, "resnet", open_clip.get_tokenizer("RN50")))
    plain, quick_one = made
    assert plain.settings["image"] == quick_one.settings["image"]
    assert plain.fingerprint != quick_one.fingerprint and plain.text_function != quick_one.text_function


# -- what is kept for a backbone --------------------------------------------------------------------------------------


def feature(value: float) -> np.ndarray:
    return np.full(64, value, dtype=np.float32)


def test_features_of_two_functions_do_not_share_a_cache(tmp_path: Path) -> None:
    key = b"k" * 32
    names = {name: make().fingerprint for name, make in OTHERS.items()}
    for number, fingerprint in enumerate(names.values()):
        cache = DiskFeatureCache(tmp_path, fingerprint, 64)
        assert cache.get(key) is None
        cache.put({key: feature(number)})
        cache.close()
    for number, fingerprint in enumerate(names.values()):
        cache = DiskFeatureCache(tmp_path, fingerprint, 64)
        found = cache.get(key)
        assert found is not None and found[0] == number
        cache.close()


def test_features_of_earlier_versions_are_taken_where_they_must_be_of_this_function(tmp_path: Path) -> None:
    key, earlier = b"k" * 32, earlier_fingerprint(tiny().fingerprint)
    assert earlier is not None and len(earlier) == 64
    old = DiskFeatureCache(tmp_path, earlier, 64)
    old.put({key: feature(7)})
    old.close()
    taken = {}
    for name, backbone in {
        "plain": tiny(),
        "quick": tiny(quick_gelu=True),
        "a guess": tiny(assumed=("GELU was assumed.",)),
        "bilinear": tiny(prepared={"interpolation": "bilinear"}),
    }.items():
        cache = DiskFeatureCache(tmp_path, backbone.fingerprint, 64)
        taken[name] = cache.get(key) is not None
        cache.close()
    assert taken == {"plain": True, "quick": False, "a guess": False, "bilinear": False}


def test_other_kinds_of_features_keep_their_kind() -> None:
    fingerprint = tiny().fingerprint
    assert earlier_fingerprint(f"{fingerprint}:local") == f"{earlier_fingerprint(fingerprint)}:local"
    assert earlier_fingerprint("mean-colour") is None and earlier_fingerprint("a" * 64) is None


def test_nouns_of_two_functions_are_kept_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(noun_module, "nouns", lambda: (Noun("apple", frozenset()), Noun("dog", frozenset())))
    monkeypatch.setattr(noun_module, "_list_hash", lambda: "of two nouns")
    monkeypatch.setattr(noun_module, "SHIPPED", tmp_path / "none.safetensors")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    texts = ["a photo of an apple", "a photo of a dog"]
    for quick in (False, True, False, True):
        backbone = tiny(quick_gelu=quick)
        assert torch.allclose(noun_features(backbone), backbone.encode_texts(texts), atol=2e-4)
    files = list((tmp_path / "torch" / "lsn_core").iterdir())
    assert len(files) == 2
    # As earlier versions wrote it: by the weights alone.
    kept = load_file(files[0])["nouns"].flip(0).contiguous()
    for file in files:
        file.unlink()
    about = {"weights_hash": tiny().weights_hash, "list": "of two nouns"}
    save_file({"nouns": kept}, tmp_path / "torch" / "lsn_core" / f"nouns-{tiny().weights_hash[:16]}.safetensors", about)
    assert torch.allclose(noun_features(tiny()), kept.float(), atol=1e-3)
    quick_one = tiny(quick_gelu=True)
    with caplog.at_level(logging.WARNING):
        assert torch.allclose(noun_features(quick_one), quick_one.encode_texts(texts), atol=2e-4)
    assert caplog.text == ""
