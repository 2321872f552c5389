"""What a folder of BLIP in the transformers library's layout holds, read before any weight is loaded."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lsn_core.backbones.blip_model import ACTIVATIONS
from lsn_core.backbones.weights_file import WeightsFile, read_header
from lsn_core.errors import UserError

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
TOKENIZERS = ("tokenizer.json", "vocab.txt")
SMALL_FILES = (
    CONFIG,
    *("preprocessor_config.json", "processor_config.json"),
    *(*TOKENIZERS, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
)
EXAMPLE = "blip:Salesforce/blip-itm-base-coco"
CLASS = "BlipForImageTextRetrieval"

_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_RESAMPLING = {2: "bilinear", 3: "bicubic"}  # by Pillow's numbers
_TEMPERATURE_LOG = 2.6592  # log(1 / 0.07), transformers' default


@dataclass(frozen=True)
class BlipFolder:
    """A folder that was found to fit together.

    Attributes:
        path: the folder.
        config: config.json.
        weights: the header of its weights.
        preprocess: open_clip's preprocess_cfg.
        temperature: τ.
        assumed: sentences on what the files leave open.
    """

    path: Path
    config: dict[str, Any]
    weights: WeightsFile
    preprocess: dict[str, Any]
    temperature: float
    assumed: tuple[str, ...]


def read_blip_folder(folder: Path) -> BlipFolder:
    """Reads everything but weights and words.

    Raises:
        UserError: something is missing, is of another model, or does not fit the rest; says what to do.
    """
    config = read_blip_config(folder)
    _check_tokenizer(folder)
    path = folder / WEIGHTS
    if not path.is_file():
        raise UserError(f"{folder} has no {WEIGHTS}. {_other_weights(folder)}")
    weights = read_header(path)
    _check_heads(weights, config)
    _check_shapes(weights, config)
    preprocess, assumed = _preprocessing(folder, config["vision_config"].get("image_size", 384))
    return BlipFolder(folder, config, weights, preprocess, _temperature(folder, config), assumed)


def read_blip_config(folder: Path) -> dict[str, Any]:
    """config.json, with both towers' parts. Raises UserError where it is missing or of another model."""
    path = folder / CONFIG
    if not path.is_file():
        if (folder / "open_clip_config.json").is_file():
            raise UserError(f"{folder} is in open_clip's layout: write local-dir:{folder}.")
        raise UserError(
            f"{folder} has no {CONFIG}. blip: wants a folder as transformers' save_pretrained writes it: {CONFIG}, "
            f"{WEIGHTS}, vocab.txt or tokenizer.json, preprocessor_config.json."
        )
    config = _read_json(path)
    kind = config.get("model_type")
    if kind != "blip":
        raise UserError(
            f"{path} is of a model of type {str(kind)[:40]!r}, and blip: reads BLIP's {CLASS} only, such as {EXAMPLE}."
        )
    for name in ("text_config", "vision_config"):
        part = config.setdefault(name, {})
        if not isinstance(part, dict):
            raise UserError(f"{path} has a {name} that is no table of settings. Get it again.")
        if (activation := part.get("hidden_act", "gelu")) not in ACTIVATIONS:
            raise UserError(
                f"{path} names the activation {str(activation)[:40]!r}, which no BLIP has. Known: "
                f"{', '.join(ACTIVATIONS)}."
            )
    for name in ("image_size", "patch_size"):
        if not isinstance(config["vision_config"].get(name, 16), int):
            raise UserError(f"{path} has a {name} that is no whole number: BLIP's pictures and patches are squares.")
    return config


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}). Get it again.") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} holds no table of settings. Get it again.")
    return found


# -- weights -----------------------------------------------------------------------------------------------------------


def conversion(source: str) -> str:
    """A command that writes a folder of BLIP, without pickles, from what the transformers library can read."""
    return (
        f'python -c "from transformers import {CLASS} as M, BlipProcessor as P; n = {source!r}; '
        "M.from_pretrained(n).save_pretrained('blip'); P.from_pretrained(n).save_pretrained('blip')\""
    )


def _other_weights(folder: Path) -> str:
    names = {path.name for path in folder.iterdir()}
    if f"{WEIGHTS}.index.json" in names:
        return "Its weights are in several parts: save them as one, with max_shard_size='100GB' in save_pretrained."
    if names & {"pytorch_model.bin", "tf_model.h5"} or any(name.endswith((".pth", ".bin", ".pt")) for name in names):
        return (
            "Pickles are not read, as they can run code. Convert them once, where you trust them: "
            f"{conversion(str(folder))}, and write blip:blip."
        )
    if others := sorted(name for name in names if name.endswith(".safetensors")):
        return f"Is it {others[0]}? Then give it that name."
    return "Get the folder again."


def _check_heads(weights: WeightsFile, config: Mapping[str, Any]) -> None:
    names = set(weights.shapes)
    if {"vision_proj.weight", "text_proj.weight"} <= names:
        return
    saved = ", ".join(map(str, config.get("architectures") or [])) or "something else"
    captions = any(name.startswith(("text_decoder.", "text_model.", "visual_projection.")) for name in names)
    why = "captions, answers to questions and BlipModel have none" if captions else "it was saved as another model"
    raise UserError(
        f"{weights.path} has no heads that put pictures and texts into one space (vision_proj, text_proj): it is a "
        f"{saved[:80]}, and {why}. Take a {CLASS}, such as {EXAMPLE}."
    )


def _check_shapes(weights: WeightsFile, config: Mapping[str, Any]) -> None:
    """Compares the sizes that config.json names with those of the tensors, before anything of them is built."""
    vision, text = config["vision_config"], config["text_config"]
    width, patch = vision.get("hidden_size", 768), vision.get("patch_size", 16)
    words, dim = text.get("hidden_size", 768), config.get("image_text_hidden_size", 256)
    try:
        places = (vision.get("image_size", 384) // patch) ** 2 + 1
        wanted = {
            "vision_model.embeddings.patch_embedding.weight": (width, 3, patch, patch),
            "vision_model.embeddings.position_embedding": (1, places, width),
            "vision_model.encoder.layers.0.mlp.fc1.weight": (vision.get("intermediate_size", 3072), width),
            "text_encoder.embeddings.word_embeddings.weight": (text.get("vocab_size", 30524), words),
            "text_encoder.embeddings.position_embeddings.weight": (text.get("max_position_embeddings", 512), words),
            "text_encoder.encoder.layer.0.intermediate.dense.weight": (text.get("intermediate_size", 3072), words),
            "vision_proj.weight": (dim, width),
            "text_proj.weight": (dim, words),
        }
        layers = {
            "vision_model.encoder.layers.": vision.get("num_hidden_layers", 12),
            "text_encoder.encoder.layer.": text.get("num_hidden_layers", 12),
        }
    except (TypeError, ZeroDivisionError) as error:
        path = weights.path.with_name(CONFIG)
        raise UserError(f"{path} has sizes that are no whole numbers. Get it again.") from error
    for name, shape in wanted.items():
        if (found := weights.shapes.get(name)) != shape:
            raise unlike(weights, f"{name} is {_size(found)} there and {_size(shape)}")
    for start, count in layers.items():
        found_count = len({name[len(start) :].partition(".")[0] for name in weights.shapes if name.startswith(start)})
        if found_count != count:
            raise unlike(weights, f"{start.rstrip('.')} are {found_count} there and {count}")


def unlike(weights: WeightsFile, how: str) -> UserError:
    """That weights are not those of their config; `how` says which size is there and which is wanted."""
    return UserError(
        f"{weights.path} does not fit {CONFIG} beside it: {how} by {CONFIG}. Get both again, from one model."
    )


def _size(shape: tuple[int, ...] | None) -> str:
    return " x ".join(map(str, shape)) if shape else "missing"


def _temperature(folder: Path, config: Mapping[str, Any]) -> float:
    """τ by logit_scale_init_value: 0.07, where BLIP's training began; released files have not kept what it learned."""
    scale = config.get("logit_scale_init_value", _TEMPERATURE_LOG)
    if not isinstance(scale, int | float) or not -10 < scale < 10:
        raise UserError(
            f"{folder / CONFIG} has a logit_scale_init_value of {str(scale)[:40]!r}; log(1 / 0.07) = 2.6592 is usual."
        )
    return math.exp(-scale)


# -- words and pictures ------------------------------------------------------------------------------------------------


def _check_tokenizer(folder: Path) -> None:
    found = [folder / name for name in TOKENIZERS if (folder / name).is_file()]
    if not found:
        raise UserError(
            f"{folder} has no {' or '.join(TOKENIZERS)}, so no text can be read. Take vocab.txt of the same model; "
            "BLIP's own is that of bert-base-uncased."
        )
    if found[0].suffix == ".json":
        model = _read_json(found[0]).get("model")
        kind = model.get("type", "WordPiece") if isinstance(model, dict) else None
        if kind != "WordPiece":
            raise UserError(f"{found[0]} is no tokenizer of BERT (WordPiece) but {str(kind)[:40]!r}. Take BLIP's own.")


def _preprocessing(folder: Path, side: int) -> tuple[dict[str, Any], tuple[str, ...]]:
    """open_clip's preprocess_cfg, in which the whole picture is squeezed into a square, and what was assumed."""
    missing: tuple[Path, dict[str, Any]] = (folder / SMALL_FILES[1], {})
    path, settings = next(_processors(folder), missing)
    assumed: tuple[str, ...] = ()
    if settings is missing[1]:
        assumed = (f"{folder} has no {path.name}: pictures are resized to {side} x {side} as BLIP's own have it.",)
    size = settings.get("size", side)
    square = (size.get("height"), size.get("width")) if isinstance(size, dict) else (size, size)
    if square != (side, side):
        raise UserError(f"{path} resizes pictures to {square[0]} x {square[1]}, and the tower reads {side} x {side}.")
    for name in ("do_resize", "do_rescale", "do_normalize"):
        if settings.get(name, True) is not True:
            raise UserError(f"{path} has {name} switched off, which no BLIP has. Get it again.")
    # BLIP's own say do_pad, too, which their processor does not know; squares need no padding.
    if settings.get("do_center_crop"):
        raise UserError(f"{path} cuts out the middle of pictures, which no BLIP does. Get it again.")
    if (resample := settings.get("resample", 3)) not in _RESAMPLING:
        raise UserError(f"{path} has the resampling {str(resample)[:40]!r}; 3 (bicubic) is BLIP's own.")
    mean, std = settings.get("image_mean", _MEAN), settings.get("image_std", _STD)
    if not (_is_three(mean) and _is_three(std) and all(std)):
        raise UserError(f"{path} has no three numbers each for image_mean and image_std. Get it again.")
    found = {"size": (side, side), "mode": "RGB", "mean": tuple(mean), "std": tuple(std), "fill_color": 0}
    return {**found, "interpolation": _RESAMPLING[resample], "resize_mode": "squash"}, assumed


def _processors(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for name in ("preprocessor_config.json", "processor_config.json"):  # of transformers 4, of 5
        if (path := folder / name).is_file():
            found = _read_json(path)
            settings = found if name.startswith("pre") else found.get("image_processor")
            if isinstance(settings, dict):
                yield path, settings


def _is_three(values: Any) -> bool:
    return isinstance(values, list | tuple) and len(values) == 3 and all(isinstance(v, int | float) for v in values)
