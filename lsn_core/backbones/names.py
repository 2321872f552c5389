"""From a backbone's name to what is loaded: without a download, and with the name that would work for a wrong one."""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import open_clip

from lsn_core.backbones.blip_loading import PREFIX as BLIP
from lsn_core.backbones.blip_loading import check_blip_name
from lsn_core.backbones.suggestions import FILES_THAT_RUN_CODE, TRANSFORMERS, bare, hint, no_such_tag
from lsn_core.backbones.weights_file import check_architecture, find_activation, preprocessing_of, read_weights_file
from lsn_core.errors import UserError
from lsn_core.shipped import EMBEDDED, EMBEDDED_DIR

NAME_FORMS = (
    "'embedded', ARCH:TAG (such as ViT-B-16:openai), ARCH:FILE.safetensors, hf-hub:ORG/REPO, local-dir:PATH, "
    "blip:ORG/REPO or blip:FOLDER"
)

_OTHER_FORMATS = (".npz", ".npy", ".msgpack", ".onnx", ".h5", ".gguf", ".tflite", ".zip", ".json", ".index.json")
_CONVERT = (
    "python -c \"import torch, safetensors.torch as s; x = torch.load({0!r}, map_location='cpu', weights_only=True); "
    "s.save_file({{k: v.contiguous().clone() for k, v in x.get('state_dict', x).items()}}, {1!r})\""
)


@dataclass(frozen=True)
class Source:
    """What a name stands for.

    Attributes:
        model: what open_clip calls it: an architecture, hf-hub:ORG/REPO or local-dir:PATH; or blip:ORG/REPO or
            blip:FOLDER, which open_clip does not know.
        options: keyword arguments of `open_clip.create_model`.
        assumed: sentences on what the name and the files leave open.
    """

    model: str
    options: dict[str, Any] = field(default_factory=dict)
    assumed: tuple[str, ...] = ()


def resolve(name: str) -> Source:
    """What to load for a name; nothing is downloaded, and only headers of files are read.

    Raises:
        UserError: no backbone has that name, or its file or folder cannot serve; says why, and which name would work.
    """
    name = name.strip()
    try:
        return _resolve(name)
    except OSError as error:  # of a path that the system does not take: too long, or of a drive that is not ready
        raise UserError(
            f"No backbone is called {name[:60]!r}... ({error.strerror or error}). Use {NAME_FORMS}."
        ) from error


def _resolve(name: str) -> Source:
    if name == EMBEDDED:
        return _folder(name, EMBEDDED_DIR)
    if name.startswith("local-dir:"):
        return _folder(name, Path(name.removeprefix("local-dir:").strip()).expanduser())
    if name.startswith("hf-hub:"):
        return _repository(name)
    if name.startswith(BLIP):
        return Source(check_blip_name(name))
    arch, colon, tag = name.partition(":")
    base = re.sub(r"-gelu$", "", arch)
    if base not in open_clip.list_models():
        raise UserError(f"No backbone is called {name!r}. {hint(name)}Use {NAME_FORMS}.")
    if tag in open_clip.list_pretrained_tags_by_model(arch):
        config = open_clip.get_pretrained_cfg(arch, tag)
        return Source(arch, {"pretrained": tag, "quick_gelu": bool(config.get("quick_gelu", False))})
    if colon and _is_path(tag):
        return _file(arch, Path(tag).expanduser())
    raise UserError(no_such_tag(arch, tag))


# -- a file of weights -----------------------------------------------------------------------------------------------


def _is_path(tag: str) -> bool:
    known = Path(tag).suffix.lower() in (".safetensors", *FILES_THAT_RUN_CODE, *_OTHER_FORMATS)
    return bool(tag) and (known or "/" in tag.rstrip("/") or "\\" in tag or Path(tag).expanduser().exists())


def _file(arch: str, path: Path) -> Source:
    _check_file(arch, path)
    file = read_weights_file(path)
    arch, form = (arch.removesuffix("-gelu"), "gelu") if arch.endswith("-gelu") else (arch, "")
    positions = check_architecture(file, arch)
    options: dict[str, Any] = {"pretrained": str(path)}
    assumed = [positions] if positions else []
    if preprocessing := preprocessing_of(arch):
        options["force_preprocess_cfg"] = preprocessing
    config = open_clip.get_model_config(arch) or {}
    if form or arch.endswith("-quickgelu"):
        options["quick_gelu"] = not form
    elif "timm_model_name" in config.get("vision_cfg", {}) and "hf_model_name" in config.get("text_cfg", {}):
        pass  # towers of other libraries bring their own activation
    elif found := find_activation(file, arch):
        options["quick_gelu"], why = found
        if found[0] != bool(config.get("quick_gelu", False)):
            assumed.append(f"{path} is run with {'QuickGELU' if found[0] else 'GELU'}, as {why}. {_choice(arch, path)}")
    else:
        kind = "QuickGELU" if config.get("quick_gelu", False) else "GELU"
        assumed.append(
            f"{path} is run with {kind}, as {arch} has it: the file does not say what it was trained with, and weights "
            f"of OpenAI, MetaCLIP and DFN want QuickGELU. {_choice(arch, path)}"
        )
    return Source(arch, options, tuple(assumed))


def _choice(arch: str, path: Path) -> str:
    return f"{arch}-quickgelu:{path} or {arch}-gelu:{path} settles it."


def _check_file(arch: str, path: Path) -> None:
    """Raises UserError for what is no file that can be read, with what would do instead."""
    suffix = path.suffix.lower()
    if re.match(r"\w+:/", str(path)) and not path.exists():
        raise UserError(f"{path.name} is not fetched from an address. Download it, then write {arch}:FILE.safetensors.")
    if path.is_dir():
        raise UserError(
            f"{path} is a folder, not a file of weights. For a folder in open_clip's layout write local-dir:{path}."
        )
    if not path.is_file():
        folder = path.parent
        if not folder.is_dir():
            raise UserError(f"There is no folder {folder}, so no weights {path.name} in it. Check the path.")
        there = sorted(other.name for other in folder.glob("*") if other.suffix.lower() == ".safetensors")
        close = [other for other in there if Path(other).stem.lower() == path.stem.lower()]
        close += difflib.get_close_matches(path.name, there, n=1)
        meant = f" Did you mean {arch}:{folder / close[0]}?" if close else ""
        raise UserError(f"There is no weights file {path} (looked for from {Path.cwd()}).{meant} Check the path.")
    if suffix in FILES_THAT_RUN_CODE:
        safe = path.with_suffix(".safetensors")
        way = (
            f"Beside it lies {safe.name}: write {arch}:{safe}."
            if safe.is_file()
            else f"Convert it once: {_CONVERT.format(str(path), str(safe))} and write {arch}:{safe}."
        )
        raise UserError(f"{path} is not read: {path.suffix} files are pickles, which can run code. {way}")
    if path.suffix != ".safetensors":
        if suffix == ".safetensors":
            raise UserError(f"{path} is not read under this name: its ending must be .safetensors in small letters.")
        raise UserError(f"{path} is not read: weights must be a .safetensors file in open_clip's layout.")
    if re.search(r"-\d{5}-of-\d{5}$", path.stem):
        raise UserError(f"{path} is one part of several. Save the model as one .safetensors file and name that.")


# -- a folder, a repository ------------------------------------------------------------------------------------------


def _folder(name: str, folder: Path) -> Source:
    if name.partition(":")[2].strip() == "" and name != EMBEDDED:
        raise UserError(f"{name} names no folder: write local-dir:PATH.")
    if folder.is_file():
        raise UserError(
            f"local-dir: wants a folder, and {folder} is a file. For a file of weights write ARCH:{folder}."
        )
    config = folder / "open_clip_config.json"
    if not config.is_file():
        why = "" if folder.is_dir() else ": there is no such folder"
        if (folder / "config.json").is_file():
            why = f": it is in the layout of the transformers library, of which only BLIP is read, as blip:{folder}"
        raise UserError(
            f"The backbone {name} has no open_clip_config.json in {folder}{why}. Point local-dir: at a folder in "
            f"open_clip's layout (open_clip_config.json beside open_clip_model.safetensors)."
        )
    try:
        described = json.loads(config.read_text(encoding="utf-8"))["model_cfg"]
        quick = described.get("quick_gelu")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{config} cannot be read as JSON with a model_cfg ({error}). Get it again.") from error
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise UserError(
            f"The backbone {name} has no .safetensors file in {folder}. Other formats are not read: they can run code."
        )
    chosen = [path for path in weights if path.stem in ("open_clip_model", "open_clip_pytorch_model", "model")]
    if not chosen and any(path.suffix in (".bin", ".pth") for path in folder.iterdir()):
        # open_clip would take the pickle beside it, for its name.
        raise UserError(f"{folder} has no open_clip_model.safetensors, only {weights[0].name}. Give it that name.")
    if not chosen and len(weights) > 1:
        raise UserError(
            f"{folder} has {len(weights)} .safetensors files. Call the right one open_clip_model.safetensors."
        )
    file = read_weights_file((chosen or weights)[0])
    of_timm = "timm_model_name" in described.get("vision_cfg", {})
    evidence = find_activation(file, "") if quick is None and not of_timm else None
    if not evidence or not evidence[0]:
        return Source(f"local-dir:{folder}")
    sentence = (
        f"{folder} is run with GELU, as its open_clip_config.json says nothing else, though {evidence[1]}: add "
        f'"quick_gelu": true or false to its model_cfg.'
    )
    return Source(f"local-dir:{folder}", {}, (sentence,))


def _repository(name: str) -> Source:
    repository = bare(name.removeprefix("hf-hub:"))
    if same := TRANSFORMERS.get(repository.lower()):
        raise UserError(
            f"{repository} is in the layout of the transformers library, which open_clip does not read. "
            f"The same weights are {same}."
        )
    if re.fullmatch(r"[\w.-]+/blip-[\w.-]+", repository.lower()):
        raise UserError(f"{repository} is in the layout of the transformers library: write {BLIP}{repository}.")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", repository):
        raise UserError(
            f"{name!r} names no repository of the Hugging Face Hub: write hf-hub:ORG/REPO. {hint(repository)}".strip()
        )
    if f"hf-hub:{repository}" != name:
        raise UserError(f"{name!r} is no name of a repository: write hf-hub:{repository}.")
    return Source(name)
