"""What a safetensors file of weights tells before it is loaded: whose layout, which architecture, which activation."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import open_clip

from lsn_core.errors import UserError

_MAX_HEADER_BYTES = 100 * 2**20  # as the safetensors library has it
_OPENAI_NUMBERS = {"input_resolution", "context_length", "vocab_size"}
_SAFER = "Get it again, or take the model by its name, such as ViT-B-16:openai."


@dataclass(frozen=True)
class WeightsFile:
    """The header of a safetensors file.

    Attributes:
        path: the file.
        shapes: name -> shape of each tensor.
        metadata: what else it says, text by text.
    """

    path: Path
    shapes: dict[str, tuple[int, ...]]
    metadata: dict[str, str]


def read_weights_file(path: Path) -> WeightsFile:
    """Reads the header and checks that the tensors are those of a whole CLIP in open_clip's layout.

    Raises:
        UserError: it is no safetensors file, is cut off, or holds something else; says what, and what would work.
    """
    found = read_header(path)
    if problem := _other_layout(found):
        raise UserError(f"The weights file {path} {problem}")
    return found


def read_header(path: Path) -> WeightsFile:
    """Reads the header, whatever it is of. Raises UserError where it is no safetensors file, or is cut off."""
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            begin = file.read(8)
            length = int.from_bytes(begin, "little")
            text = file.read(length) if len(begin) == 8 and length <= min(size - 8, _MAX_HEADER_BYTES) else None
            start = begin + (file.read(56) if text is None else b"")
    except OSError as error:
        raise UserError(f"The weights file {path} cannot be read ({error.strerror}). Check its permissions.") from error
    if text is None:
        raise UserError(f"The weights file {path} could not be loaded: {_what_else(start, size)}. {_SAFER}")
    try:
        header = json.loads(text)
        metadata = header.pop("__metadata__", {})
        shapes = {name: tuple(entry["shape"]) for name, entry in header.items()}
        end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
    except (ValueError, AttributeError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise UserError(f"The weights file {path} could not be loaded: its header cannot be read. {_SAFER}") from error
    whole = 8 + length + end
    if whole > size:
        cut = f"it is cut off, {size:,} of {whole:,} bytes are there"
        raise UserError(f"The weights file {path} could not be loaded: {cut}. {_SAFER}")
    return WeightsFile(path, shapes, {str(k): str(v) for k, v in metadata.items()} if metadata else {})


def _what_else(start: bytes, size: int) -> str:
    if not size:
        return "it is empty"
    if start.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS to a file that was not fetched (`git lfs pull` gets it)"
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it is a web page, as a download that failed leaves one"
    if start.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x04")):
        return "it is a pickled file under another name, and pickles are not read, as they can run code"
    return "it is something else, or its beginning is damaged"


def _other_layout(file: WeightsFile) -> str:
    """What the file holds instead of open_clip's tensors, as the rest of a sentence; empty where it holds those."""
    names = set(file.shapes)

    def some(*starts: str) -> bool:
        return any(name.startswith(starts) for name in names)

    if "lsn" in file.metadata:
        return "is a detector that this program saved, no backbone: give it as --detector."
    if some("text_encoder.") and some("vision_model."):
        return f"is of BLIP, in the layout of the transformers library: write blip:{file.path.parent}."
    if some("text_model.", "vision_model."):
        return (
            "is in the layout of the transformers library, which open_clip does not read. Take the same model by its "
            "name, such as ViT-B-32:openai for openai/clip-vit-base-patch32."
        )
    if any(".lora_" in name or "lora_A" in name for name in names):
        return "holds an adapter (LoRA), no whole model. Merge it into its model and save that."
    if not names:
        return f"holds no tensors. {_SAFER}"
    if not some("visual.", "module.visual.", "image_encoder."):
        known = ", ".join(sorted(names)[:2])
        return f"holds no image tower of a CLIP (its tensors begin with {known}). {_SAFER}"
    if not names & {"logit_scale", "module.logit_scale"}:
        return f"holds an image tower alone: a CLIP has a text tower and a logit_scale, too. {_SAFER}"
    if extra := sorted(_OPENAI_NUMBERS & names):
        return (
            f"has OpenAI's numbers {', '.join(extra)} among its weights, which are none. Save it without them and load "
            "it with QuickGELU, as ARCH-quickgelu:FILE, or take the model by its name, such as ViT-B-32:openai."
        )
    return ""


# -- which architecture ----------------------------------------------------------------------------------------------


def check_architecture(file: WeightsFile, arch: str) -> str:
    """Says how the file differs from its architecture without harm; empty where it does not.

    Raises:
        UserError: the tensors are another architecture's; names those that they fit.
    """
    wanted, found = _of_config(arch), _of_shapes(file)
    if wanted is None or found is None:
        return ""  # built by another library: loading it will tell
    if wanted[1:] != found[1:]:
        same = [name for name in open_clip.list_models() if _of_config(name) == found]
        fits = f"They fit {' or '.join(same[:4])}: write {same[0]}:{file.path}." if same else "They fit no known one."
        raise UserError(f"The weights file {file.path} does not fit {arch}: {_unlike(wanted, found)}. {fits}")
    if wanted[0] != found[0]:
        same = [name for name in open_clip.list_models() if _of_config(name) == found]
        better = f" {same[0]}:{file.path} takes them as they are." if same else ""
        return (
            f"{file.path} was trained on pictures of {found[0]} pixels and {arch} has {wanted[0]}: the positions are "
            f"interpolated.{better}"
        )
    return ""


_PARTS = ("pictures", "tower", "width", "layers", "patch", "features", "text width", "text layers", "words", "context")


def _unlike(wanted: tuple[Any, ...], found: tuple[Any, ...]) -> str:
    pairs = zip(_PARTS, wanted, found, strict=True)
    return ", ".join(f"its {part} is {there} and not {here}" for part, here, there in pairs if here != there)


def _of_shapes(file: WeightsFile) -> tuple[Any, ...] | None:
    """Sizes that the tensors have, in the order of `_PARTS`; None for towers of other libraries."""
    shapes = {name.removeprefix("module."): shape for name, shape in file.shapes.items()}
    shapes |= {name.removeprefix("text."): shape for name, shape in shapes.items() if name.startswith("text.")}
    first, places = shapes.get("visual.conv1.weight"), shapes.get("visual.positional_embedding")
    words, context = shapes.get("token_embedding.weight"), shapes.get("positional_embedding")
    out = shapes.get("text_projection") or shapes.get("text_projection.weight")
    if not (first and places and words and context and out) or len(first) != 4 or len(places) != 2:
        return None
    side = round((places[0] - 1) ** 0.5) * first[-1]
    tower = side, "ViT", first[0], _count(shapes, r"visual\.transformer\.resblocks\.(\d+)\."), first[-1]
    return *tower, out[-1], words[1], _count(shapes, r"transformer\.resblocks\.(\d+)\."), words[0], context[0]


def _count(names: Iterable[str], pattern: str) -> int:
    return len({found[1] for name in names if (found := re.match(pattern, name))})


@cache
def _of_config(arch: str) -> tuple[Any, ...] | None:
    config = open_clip.get_model_config(arch) or {}
    vision, text = config.get("vision_cfg", {}), config.get("text_cfg", {})
    other = "timm_model_name" in vision or "hf_model_name" in text or "multimodal_cfg" in config
    if other or not isinstance(vision.get("layers"), int) or isinstance(vision.get("image_size"), list):
        return None
    tower = vision.get("image_size", 224), "ViT", vision.get("width", 768), vision["layers"], vision.get("patch_size")
    words = text.get("vocab_size", 49408), text.get("context_length", 77)
    return *tower, config["embed_dim"], text.get("width", 512), text.get("layers", 12), *words


# -- which activation ------------------------------------------------------------------------------------------------


def find_activation(file: WeightsFile, arch: str) -> tuple[bool, str] | None:
    """Whether a file's weights were trained with QuickGELU, and what says so; None where nothing does.

    A weight does not show it. What may: the file's metadata, a config beside it, the name of a download or a known tag
    in its path, or that all weights of this architecture that open_clip knows agree.
    """
    return next((found for found in _evidence(file, arch) if found is not None), None)


def _evidence(file: WeightsFile, arch: str) -> Iterator[tuple[bool, str] | None]:
    for key in ("quick_gelu", "hidden_act", "activation", "act"):
        if (value := file.metadata.get(key, "").lower().replace("_", "")) in ("true", "1", "quickgelu"):
            yield True, f"the file's own {key} says so"
        elif value in ("false", "0", "gelu"):
            yield False, f"the file's own {key} says so"
    for name in ("open_clip_config.json", "config.json"):
        if (quick := _of_json(file.path.with_name(name))) is not None:
            yield quick, f"{name} beside it says so"
    yield _by_path(file.path, arch)
    tags = open_clip.list_pretrained_tags_by_model(arch)
    known = {bool(open_clip.get_pretrained_cfg(arch, tag).get("quick_gelu", False)) for tag in tags}
    if len(known) == 1:
        yield known.pop(), f"all weights of {arch} that open_clip knows have it"


def _of_json(path: Path) -> bool | None:
    """What a config of open_clip or of transformers says about the activation; None for nothing."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        parts = [config, *(config.get(name, {}) for name in ("model_cfg", "vision_config", "text_config"))]
        for part in parts:
            if "quick_gelu" in part:
                return bool(part["quick_gelu"])
            if part.get("hidden_act") in ("quick_gelu", "gelu"):
                return bool(part["hidden_act"] == "quick_gelu")
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return None
    return None


def _by_path(path: Path, arch: str) -> tuple[bool, str] | None:
    parts = [part.lower() for part in path.absolute().parts[-6:]]
    tags = sorted(open_clip.list_pretrained_tags_by_model(arch), key=len, reverse=True)
    for tag in tags:
        config = open_clip.get_pretrained_cfg(arch, tag)
        quick = bool(config.get("quick_gelu", False))
        repository = config.get("hf_hub", "").strip("/").lower()
        if repository and f"models--{repository.replace('/', '--')}" in parts:
            return quick, f"it lies in the cache of {repository}, which is {arch}:{tag}"
        if (url := config.get("url", "").rpartition("/")[2]) and Path(
            url
        ).stem.lower() == path.stem.lower() != arch.lower():
            return quick, f"its name is that of {arch}:{tag}"
    for part in (parts[-1].removesuffix(".safetensors"), *parts[-2:-1]):
        if re.search(r"quick[-_ ]?gelu", part):
            return True, f"{part!r} in its path says so"
    for part in (parts[-1].removesuffix(".safetensors"), *parts[-2:-1]):
        for tag in tags:
            if re.search(rf"(?<![a-z0-9]){re.escape(tag.lower())}(?![a-z0-9])", part):
                quick = bool(open_clip.get_pretrained_cfg(arch, tag).get("quick_gelu", False))
                return quick, f"its path names the weights {arch}:{tag}"
    return None


def preprocessing_of(arch: str) -> dict[str, Any] | None:
    """How pictures are prepared for all weights of this architecture that open_clip knows; None where they differ."""
    found: list[dict[str, Any]] = []
    for tag in open_clip.list_pretrained_tags_by_model(arch):
        config = open_clip.get_pretrained_cfg(arch, tag)
        kept = {name: config[name] for name in ("mean", "std", "interpolation", "resize_mode") if name in config}
        found += [kept] if kept not in found else []
    return found[0] if len(found) == 1 else None
