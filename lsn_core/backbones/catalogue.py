"""What is known of each of open_clip's models without its weights: whether it takes learned prompts, its size."""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from typing import Any

import open_clip
import torch
from torch import nn

from lsn_core.backbones.framing import Framing
from lsn_core.backbones.initialisation import NoRandomWeights
from lsn_core.backbones.licences import licence_of
from lsn_core.backbones.text_towers import text_kind
from lsn_core.errors import UserError

TABLE = "models.json"
"""What `describe` says of every architecture with weights, written by `python -m scripts.models`."""

_FP32, _FP16 = 4, 2


@dataclass(frozen=True)
class Architecture:
    """What an architecture's configuration says.

    Attributes:
        config: 16 hex digits over it; another release of open_clip may have another one by the same name.
        tower: the kind of text tower, a class of `text_towers`.
        refusal: why that takes no learned prompts; None where it does.
        parameters: of both towers; None where the text tower's configuration is a download.
    """

    config: str
    tower: str
    refusal: str | None
    parameters: int | None


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a model before its download.

    Attributes:
        name: ARCH:TAG.
        promptable: whether learned prompts, and so training, work with it.
        refusal: why not; None where they do.
        needs: the extra to install for its tokenizer or text tower, "transformers"; None for none.
        installed: whether that is there.
        image_size: pixels of a side.
        context_length: the longest text in tokens.
        parameters: of both towers; None where not known without a download.
        download_bytes: of its weights: parameters times 4 bytes, 2 for OpenAI's; None where parameters is.
        download_estimated: whether that is an estimate; it always is, as no file is asked.
        licence: of its weights, an SPDX identifier or the Hub's own name; None where it is unknown. Its source holds.
        licence_source: address of who states it; None where licence is.
        only_for: "research" or "non-commercial use" where the licence allows nothing else; None for others.
        licence_note: where sources disagree, or what else they say; None for nothing.
    """

    name: str
    promptable: bool
    refusal: str | None
    needs: str | None
    installed: bool
    image_size: int
    context_length: int
    parameters: int | None
    download_bytes: int | None
    download_estimated: bool
    licence: str | None
    licence_source: str | None
    only_for: str | None
    licence_note: str | None


def list_models() -> Iterator[ModelFacts]:
    """Facts of all ARCH:TAG pairs that open_clip knows, in its order; no weights are built or fetched."""
    return (facts_of(f"{arch}:{tag}") for arch, tag in open_clip.list_pretrained())


def facts_of(name: str) -> ModelFacts:
    """Facts of one model.

    Args:
        name: ARCH:TAG.

    Raises:
        UserError: open_clip knows no such pair.
    """
    arch, _, tag = name.partition(":")
    if tag not in open_clip.list_pretrained_tags_by_model(arch):
        raise UserError(f"{name[:80]!r} is no ARCH:TAG that open_clip knows. `lsn doctor --models` lists them.")
    config = open_clip.get_model_config(arch) or {}
    known = _known(arch)
    size = config["vision_cfg"].get("image_size", 224)
    licence = licence_of(open_clip.get_pretrained_cfg(arch, tag))
    return ModelFacts(
        name=name,
        promptable=known.refusal is None,
        refusal=known.refusal,
        needs="transformers" if needs_transformers(arch, config) else None,
        installed=not needs_transformers(arch, config) or has_transformers(),
        image_size=int(size[0] if isinstance(size, list | tuple) else size),
        context_length=int(config["text_cfg"].get("context_length", 77)),
        parameters=known.parameters,
        download_bytes=known.parameters and known.parameters * (_FP16 if tag == "openai" else _FP32),
        download_estimated=True,
        licence=licence.licence if licence else None,
        licence_source=licence.source if licence else None,
        only_for=licence.only_for if licence else None,
        licence_note=licence.note if licence else None,
    )


def needs_transformers(arch: str, config: dict[str, Any]) -> bool:
    """Whether a model's tokenizer or text tower is one of the transformers library; as open_clip chooses it."""
    text = config.get("text_cfg", {})
    return bool(text.get("hf_tokenizer_name") or text.get("hf_model_name") or "siglip" in arch.lower())


def has_transformers() -> bool:
    """Whether the transformers library is installed."""
    return importlib.util.find_spec("transformers") is not None


def describe(arch: str) -> Architecture:
    """What an architecture is, from its parts laid out without memory (on torch's meta device)."""
    config = open_clip.get_model_config(arch)
    if config is None:
        raise UserError(f"open_clip has no architecture {arch[:80]!r}.")
    digest = _digest(config)
    if "hf_model_name" in config["text_cfg"]:
        pools = config["text_cfg"].get("hf_pooler_type") != "max_pooler"
        return Architecture(digest, "HuggingFaceText", None if pools else "it pools by the maximum", None)
    model = _lay_out(config)
    kind = text_kind(model, Framing(lambda texts: torch.zeros(len(texts), 1, dtype=torch.long)))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Architecture(digest, type(kind).__name__, kind.refusal, parameters)


def _lay_out(config: dict[str, Any]) -> nn.Module:
    """The model of a configuration, as `open_clip.create_model` chooses its class, without memory for weights."""
    config = copy.deepcopy(config)
    custom = config.pop("custom_text", False)
    if "timm_model_name" in config["vision_cfg"]:
        config["vision_cfg"]["timm_model_pretrained"] = False
    kind: Any = open_clip.CoCa if "multimodal_cfg" in config else open_clip.CustomTextCLIP if custom else open_clip.CLIP
    with torch.device("meta"), NoRandomWeights():
        model: nn.Module = kind(**config)
    return model


def _digest(config: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]


@cache
def _known(arch: str) -> Architecture:
    row = _table().get(arch)
    if row is not None and row["config"] == _digest(open_clip.get_model_config(arch)):
        return Architecture(**row)
    return describe(arch)


@cache
def _table() -> dict[str, Any]:
    text = resources.files(__package__).joinpath(TABLE).read_text(encoding="utf-8")
    table: dict[str, Any] = json.loads(text)
    return table


def table_text() -> str:
    """The text of `TABLE` for the installed open_clip: one architecture a line."""
    archs = sorted({arch for arch, _ in open_clip.list_pretrained()})
    rows = [f"  {json.dumps(arch)}: {json.dumps(asdict(describe(arch)))}" for arch in archs]
    return "{\n" + ",\n".join(rows) + "\n}\n"
