"""What makes a backbone the function that it is, beside its weights: equal weights may run as different models."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import cached_property
from typing import Any

import open_clip
import torch
from open_clip.hf_model import HFTextEncoder
from open_clip.timm_model import TimmModel
from open_clip.transform import PreprocessCfg
from torch import nn

from lsn_core.backbones.blip_model import BlipTextTower

Settings = dict[str, Any]
"""Plain values by name, as JSON has them: what is compared between a detector file and the backbone at hand."""

QUICK = "QuickGELU"
PLAIN = "GELU"
_ACTIVATION = re.compile(r"(?i)gelu|relu|silu|swish|mish")
# Numbers of a module that change what it computes and are in no weight; dropout does not, in eval mode.
_SHAPING = (
    *("num_heads", "n_head", "heads", "head_dim", "scale", "eps", "approximate", "negative_slope"),
    *("kernel_size", "stride", "padding", "padding_mode", "dilation", "groups", "ceil_mode", "count_include_pad"),
    *("pool_type", "attn_pool_type", "text_pool_type", "global_pool", "final_ln_after_pool", "num_prefix_tokens"),
    *("eos_id", "text_eos_id", "pad_id", "num_pos", "no_embed_class", "pooler_type", "normalize", "antialias"),
)


class Weights:
    """The weights of a model, which do not change."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model

    @cached_property
    def hash(self) -> str:
        """SHA-256 (hex) over their names and values."""
        digest = hashlib.sha256()
        for key, tensor in sorted(self._model.state_dict().items()):
            digest.update(key.encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()


def image_settings(model: Any) -> Settings:
    """What decides an image's features beside the weights: activation, size, preprocessing, precision, structure."""
    tower = model.visual
    return {
        **_tower_settings(tower, list(tower.named_modules())),
        "preprocessing": _plain(asdict(PreprocessCfg(**tower.preprocess_cfg))),
    }


def text_settings(model: Any, tokenizer: Any) -> Settings:
    """What decides a text's features beside the weights: activation, longest text, tokenizer, precision, structure."""
    text = getattr(model, "text", model)
    modules = list(text.named_modules())
    if text is model:  # it keeps the parts of its text tower on itself, beside the image tower
        modules = [(path, module) for path, module in modules if path.partition(".")[0] != "visual"]
    return {
        **_tower_settings(text, modules),
        "causal": getattr(text, "attn_mask", None) is not None,
        "context_length": int(getattr(model, "context_length", 77)),
        "tokenizer": _tokenizer_settings(tokenizer),
    }


def digest(settings: Mapping[str, Any]) -> str:
    """16 hex digits of SHA-256 over settings, of one tower or of both."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def earlier_versions_agree(settings: Mapping[str, Any], *, assumed: bool) -> bool:
    """Whether what an earlier version kept for these weights is of this function.

    Those versions kept features, texts and checkpoints by weights and preprocessing alone, so that QuickGELU's and
    GELU's lay together. QuickGELU therefore begins anew, and so does GELU where it was only assumed.

    Args:
        settings: of one tower.
        assumed: whether the activation was a guess.
    """
    activations = set(settings["activation"])
    return QUICK not in activations and not (assumed and PLAIN in activations)


def differences(wanted: Mapping[str, Any], found: Mapping[str, Any], prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Settings that are not equal, name -> wanted and found value; those that one side lacks do not count."""
    unequal: dict[str, tuple[Any, Any]] = {}
    for name in wanted.keys() & found.keys():
        if isinstance(wanted[name], dict) and isinstance(found[name], dict):
            unequal |= differences(wanted[name], found[name], f"{prefix}{name} ")
        elif wanted[name] != found[name]:
            unequal[f"{prefix}{name}"] = (wanted[name], found[name])
    return dict(sorted(unequal.items()))


def activation_of(settings: Mapping[str, Any]) -> str:
    """An activation as it is read aloud: "QuickGELU", or several with commas."""
    return ", ".join(settings["activation"]) or "none"


def _tower_settings(tower: nn.Module, modules: list[tuple[str, nn.Module]]) -> Settings:
    structure = [[path, type(module).__name__, list(_shaping(module))] for path, module in modules]
    if isinstance(tower, BlipTextTower):
        structure.append([_plain(tower.shaping)])
    if isinstance(tower, HFTextEncoder):
        config = {k: v for k, v in tower.config.to_dict().items() if k[0] != "_" and k != "transformers_version"}
        structure.append([_plain(config)])
    return {
        "tower": type(tower).__name__,
        "activation": sorted({_activation_name(module) for _, module in modules} - {""}),
        "precision": sorted({str(tensor.dtype).removeprefix("torch.") for tensor in _floats(modules)}),
        "structure": hashlib.sha256(json.dumps(structure).encode()).hexdigest()[:16],
        "libraries": _versions(tower),
    }


def _shaping(module: nn.Module) -> Iterator[list[Any]]:
    for name in _SHAPING:
        value = module.__dict__.get(name)
        if isinstance(value, bool | int | float | str | tuple | list):
            yield [name, _plain(value)]


def _activation_name(module: nn.Module) -> str:
    name = type(module).__name__
    if any(module.children()) or not _ACTIVATION.search(name):
        return ""
    approximate = getattr(module, "approximate", "none")
    return name if approximate == "none" else f"{name} ({approximate})"


def _floats(modules: list[tuple[str, nn.Module]]) -> Iterator[torch.Tensor]:
    for _, module in modules:
        yield from (tensor for tensor in module.parameters(recurse=False) if tensor.is_floating_point())


def _tokenizer_settings(tokenizer: Any) -> Settings:
    if tokenizer is open_clip.tokenize:
        tokenizer = open_clip.tokenizer._tokenizer
    found: Settings = {"kind": getattr(tokenizer, "__name__", type(tokenizer).__name__)}
    for name in ("clean_fn", "reduction_fn"):
        if (function := getattr(tokenizer, name, None)) is not None:
            found[name] = getattr(function, "__name__", type(function).__name__).lstrip("_")
    for name in ("vocab_size", "strip_sep_token", "language", "digest"):
        if isinstance(value := getattr(tokenizer, name, None), bool | int | str):
            found[name] = value
    inner = getattr(tokenizer, "tokenizer", None)  # Hugging Face's
    if inner is not None:
        found |= {"words": type(inner).__name__, "vocab_size": int(getattr(inner, "vocab_size", 0))}
    return found


def _versions(tower: nn.Module) -> dict[str, str]:
    names = ["open_clip_torch"] + ["timm"] * isinstance(tower, TimmModel)
    names += ["transformers"] * isinstance(tower, HFTextEncoder | BlipTextTower)
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # vendored, or not installed as a package
            found[name] = str(getattr(open_clip, "__version__", "")) if name == "open_clip_torch" else ""
    return found


def _plain(value: Any) -> Any:
    """The value as it comes back from JSON."""
    return json.loads(json.dumps(value, default=str))
