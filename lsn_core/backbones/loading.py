"""Backbones by name: the embedded checkpoint, open_clip's pairs, the hub, a folder."""

from __future__ import annotations

import json
import logging
import socket
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

import open_clip
import torch
from huggingface_hub import constants as hub
from huggingface_hub import hf_hub_download
from open_clip.constants import HF_SAFE_WEIGHTS_NAME
from torch import Tensor, nn

from lsn_core.backbones.backbone import Backbone
from lsn_core.backbones.blip_loading import PREFIX as BLIP
from lsn_core.backbones.blip_loading import is_local_blip, load_blip
from lsn_core.backbones.catalogue import has_transformers, needs_transformers
from lsn_core.backbones.initialisation import NoRandomWeights
from lsn_core.backbones.names import Source, resolve
from lsn_core.errors import UserError
from lsn_core.shipped import EMBEDDED

log = logging.getLogger(__name__)

_hub_lock = threading.Lock()


_PICKLES_ARE_SAFE = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 10)
_INSTALL = "Install it: pip install 'lsn-core[transformers]'."
EMBEDDED_NOTE = (
    "A small CLIP trained by this project so that everything works without a download. "
    "It knows far less than a real CLIP: use ViT-B-16:openai or larger for real work."
)


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
        name: 'embedded', ARCH:TAG, ARCH:FILE.safetensors, hf-hub:ORG/REPO, local-dir:PATH, blip:ORG/REPO or
            blip:FOLDER. Of a file it is said (`Backbone.assumed`) where its activation is a guess; ARCH-quickgelu:FILE
            or ARCH-gelu:FILE settles it.
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
    source = resolve(name)
    _require_tokenizer(name, source)
    try:
        network = nullcontext() if _is_local(source) else _no_retries_without_network()
        with warnings.catch_warnings(), network, NoRandomWeights():
            model, tokenizer, assumed = _load(source, cache_dir)
    except UserError:
        raise
    except Exception as error:  # open_clip, the hub client and torch raise many kinds here, all meaning "no weights"
        if isinstance(error, ImportError) and not has_transformers():
            raise UserError(
                f"The texts of {name} are read by the transformers library, which is not installed. {_INSTALL}"
            ) from error
        if _is_local(source):
            raise UserError(
                f"The weights of {name} could not be loaded: {_first_line(error)}. The file does not fit its "
                f"architecture or is damaged: check which one it was saved from, or use 'embedded', which ships with "
                f"the project."
            ) from error
        raise UserError(
            f"The weights of {name} could not be loaded: {_first_line(error)}. They come from a download on first use: "
            f"connect to the network once, or put the model's {_folder_form(source)}, or use 'embedded', which ships "
            f"with the project."
        ) from error
    for sentence in assumed:
        log.warning("%s", sentence)
    return Backbone(model, name.strip(), tokenizer, device, assumed)


def _load(source: Source, cache_dir: str | None) -> tuple[nn.Module, Callable[..., Tensor], tuple[str, ...]]:
    """Model, tokenizer, and sentences on what was left open."""
    if source.model.startswith(BLIP):
        return load_blip(source.model, cache_dir)
    if source.model.startswith("hf-hub:") and not _PICKLES_ARE_SAFE:
        # security: older torch can be made to run code by a pickle, though weights_only is set; open_clip takes
        # safetensors where there are some, and this fails where there are none.
        hf_hub_download(source.model.removeprefix("hf-hub:"), HF_SAFE_WEIGHTS_NAME, cache_dir=cache_dir)
    # First, as it is small, and where it cannot be had the weights would be fetched for nothing.
    tokenizer = open_clip.get_tokenizer(source.model, cache_dir=cache_dir)
    # The activation is set by `resolve`, so open_clip's warning of a mismatch is moot.
    warnings.filterwarnings("ignore", message="QuickGELU mismatch")
    model = open_clip.create_model(
        source.model, require_pretrained=True, weights_only=True, cache_dir=cache_dir, **source.options
    )
    return model, tokenizer, source.assumed


def _folder_form(source: Source) -> str:
    if source.model.startswith(BLIP):
        return "folder in transformers' layout on disk and use blip:FOLDER"
    return "open_clip folder on disk and use local-dir:PATH"


def _require_tokenizer(name: str, source: Source) -> None:
    """Before anything is fetched: whether what a model's texts need is installed. Of a repository it tells later."""
    if source.model.startswith(("hf-hub:", BLIP)) or has_transformers():
        return
    if source.model.startswith("local-dir:"):
        path = Path(source.model.removeprefix("local-dir:")) / "open_clip_config.json"
        arch, config = "", json.loads(path.read_text(encoding="utf-8"))["model_cfg"]
    else:
        arch, config = source.model, open_clip.get_model_config(source.model) or {}
    if needs_transformers(arch, config):
        raise UserError(f"The texts of {name} are read by the transformers library, which is not installed. {_INSTALL}")


@contextmanager
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


def _is_local(source: Source) -> bool:
    if source.model.startswith(BLIP):
        return is_local_blip(source.model)
    return source.model.startswith("local-dir:") or Path(str(source.options.get("pretrained", ""))).is_file()


def _first_line(error: BaseException) -> str:
    text = [line.strip() for line in str(error).strip().splitlines() if line.strip()] or [type(error).__name__]
    if text[0].endswith(":") and len(text) > 1:  # torch says only then which tensor does not fit
        text[0] = f"{text[0]} {text[1]}"
    return text[0][:300].rstrip(".")
