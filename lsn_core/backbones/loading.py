"""Backbones by name: the embedded checkpoint, open_clip's pairs, the hub, a folder."""

from __future__ import annotations

import contextlib
import difflib
import socket
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import open_clip
import torch
from huggingface_hub import constants as hub
from huggingface_hub import hf_hub_download
from open_clip.constants import HF_SAFE_WEIGHTS_NAME

from lsn_core.backbones.backbone import Backbone
from lsn_core.errors import UserError
from lsn_core.shipped import EMBEDDED_DIR

_hub_lock = threading.Lock()


_PICKLES_ARE_SAFE = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 10)
EMBEDDED = "embedded"
EMBEDDED_NOTE = (
    "A small CLIP trained by this project so that everything works without a download. "
    "It knows far less than a real CLIP: use ViT-B-16:openai or larger for real work."
)


NAME_FORMS = "'embedded', ARCH:TAG (such as ViT-B-16:openai), hf-hub:ORG/REPO or local-dir:PATH"


def resolve_device(device: str = "auto") -> str:
    """'auto' -> 'cuda' where a CUDA GPU is usable, else 'cpu'; other names are checked and returned."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"The device {device!r} cannot be used here ({error}). Use 'auto' or 'cpu'.") from error
    return device


def load_backbone(name: str = EMBEDDED, device: str = "auto", cache_dir: str | None = None) -> Backbone:
    """Loads a backbone by name.

    Args:
        name: 'embedded', ARCH:TAG, hf-hub:ORG/REPO or local-dir:PATH.
        device: 'auto', 'cpu', 'cuda', ...
        cache_dir: where downloaded weights are kept; None is open_clip's default.

    Raises:
        UserError: the name is not known or its weights cannot be had; says which, why and what to do.

    Examples:
        >>> from lsn_core import load_backbone
        >>> load_backbone("embedded", device="cpu").promptable
        True
    """
    device = resolve_device(device)
    options: dict[str, Any] = {}
    source = f"local-dir:{EMBEDDED_DIR}" if name == EMBEDDED else name
    if not source.startswith(("hf-hub:", "local-dir:")):
        source, options = _known_pair(name)
    folder = Path(source.removeprefix("local-dir:")) if source.startswith("local-dir:") else None
    if folder is not None:
        _check_folder(name, folder)
    try:
        with warnings.catch_warnings(), _no_retries_without_network():
            if source.startswith("hf-hub:") and not _PICKLES_ARE_SAFE:
                # security: older torch can be made to run code by a pickle, though weights_only is set; open_clip takes
                # safetensors where there are some, and this fails where there are none.
                hf_hub_download(source.removeprefix("hf-hub:"), HF_SAFE_WEIGHTS_NAME, cache_dir=cache_dir)
            # The activation is set from the tag's own record, so open_clip's warning of a mismatch is moot.
            warnings.filterwarnings("ignore", message="QuickGELU mismatch")
            model = open_clip.create_model(
                source, require_pretrained=True, weights_only=True, cache_dir=cache_dir, **options
            )
        tokenizer = open_clip.get_tokenizer(source, cache_dir=cache_dir)
    except Exception as error:  # open_clip, the hub client and torch raise many kinds here, all meaning "no weights"
        raise UserError(
            f"The weights of {name} could not be loaded: {_first_line(error)}. They come from a download on first use: "
            f"connect to the network once, or put the model's open_clip folder on disk and use local-dir:PATH, "
            f"or use 'embedded', which ships with the project."
        ) from error
    return Backbone(model, name, tokenizer, device)


@contextlib.contextmanager
def _no_retries_without_network() -> Iterator[None]:
    """Where the hub's name cannot even be looked up, its client uses its cache alone, instead of minutes of retries."""
    host = urlsplit(hub.ENDPOINT).hostname or ""
    with _hub_lock:
        before = hub.HF_HUB_OFFLINE
        if not getproxies():
            try:
                socket.getaddrinfo(host, 443)
            except OSError:
                hub.HF_HUB_OFFLINE = True
        try:
            yield
        finally:
            hub.HF_HUB_OFFLINE = before


def list_pairs() -> list[str]:
    """All ARCH:TAG names that open_clip knows."""
    return [f"{arch}:{tag}" for arch, tag in open_clip.list_pretrained()]


def _known_pair(name: str) -> tuple[str, dict[str, Any]]:
    arch, _, tag = name.partition(":")
    if arch not in open_clip.list_models():
        close = difflib.get_close_matches(arch, open_clip.list_models(), n=3)
        hint = f" Did you mean {', '.join(close)}?" if close else ""
        raise UserError(f"No backbone is called {name!r}.{hint} Use {NAME_FORMS}.")
    tags = open_clip.list_pretrained_tags_by_model(arch)
    if Path(tag).suffix == ".safetensors" and Path(tag).is_file():
        return arch, {"pretrained": tag}
    if tag not in tags:
        known = ", ".join(tags) or "none; try the architecture without its suffix"
        raise UserError(f"{arch} has no weights called {tag!r}. Known tags: {known}. Write {arch}:TAG.")
    config = open_clip.get_pretrained_cfg(arch, tag)
    return arch, {"pretrained": tag, "quick_gelu": bool(config.get("quick_gelu", False))}


def _check_folder(name: str, folder: Path) -> None:
    if not (folder / "open_clip_config.json").is_file():
        raise UserError(
            f"The backbone {name} has no open_clip_config.json in {folder}. Point local-dir: at a folder in "
            f"open_clip's layout (open_clip_config.json beside open_clip_model.safetensors)."
        )
    if not any(folder.glob("*.safetensors")):
        raise UserError(
            f"The backbone {name} has no .safetensors file in {folder}. Other formats are not read: they can run code."
        )


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return (text[0] if text else type(error).__name__)[:300].rstrip(".")
