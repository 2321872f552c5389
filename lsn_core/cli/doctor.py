"""The command `doctor`."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lsn_core.cli.options import BackboneOption, DeviceOption, JsonOption
from lsn_core.errors import UserError

if TYPE_CHECKING:
    from lsn_core.backbones.backbone import Backbone


def doctor(
    backbone: BackboneOption = None,
    device: DeviceOption = "auto",
    models: Annotated[bool, typer.Option("--models", help="List all of open_clip's models.")] = False,
    as_json: JsonOption = False,
) -> None:
    """What is installed, which device is used, which backbones are at hand and where caches are."""
    if models:
        return _list_models(as_json)
    import torch
    from huggingface_hub.constants import HF_HUB_CACHE

    from lsn_core.backbones.identity import activation_of
    from lsn_core.backbones.loading import EMBEDDED, EMBEDDED_NOTE, load_backbone, resolve_device
    from lsn_core.shipped import EMBEDDED_DIR

    backbone = backbone or EMBEDDED
    names = (
        "lsn-core",
        "torch",
        "torchvision",
        "open_clip_torch",
        "timm",
        "gradio",
        "grad-cam",
        "numpy",
        "pillow",
        "openvino",
        "transformers",
    )
    report: dict[str, Any] = {
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in names},
        "device": resolve_device(device),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "cpu_threads": torch.get_num_threads(),
        "backbone": backbone,
        "embedded_checkpoint": str(EMBEDDED_DIR) if EMBEDDED_DIR.is_dir() else None,
        "weights_cache": HF_HUB_CACHE,
        "weights_in_cache": sorted(path.name for path in Path(HF_HUB_CACHE).glob("models--*")),
    }
    try:
        loaded = load_backbone(backbone, device)
        report["backbone_ok"] = True
        report["feature_size"] = loaded.dim
        report["promptable"] = loaded.promptable
        report["weights_hash"] = loaded.weights_hash
        image = loaded.settings["image"]
        report["activation"] = activation_of(image)
        size = image["preprocessing"]["size"]
        report["image_size"] = " x ".join(map(str, size if isinstance(size, list) else [size, size]))
        report["fingerprint"] = loaded.fingerprint
        report["assumed"] = list(loaded.assumed)
        report["compiled_tower"] = _compiled_tower(loaded)
    except UserError as error:
        report["backbone_ok"] = False
        report["problem"] = str(error)
    if as_json:
        typer.echo(json.dumps(report))
    else:
        for key, value in report.items():
            text = (
                ", ".join(f"{k} {v or 'not installed'}" for k, v in value.items()) if isinstance(value, dict) else value
            )
            typer.echo(f"{key.replace('_', ' '):>20}  {text}")
        if backbone == EMBEDDED:
            typer.echo(f"{'note':>20}  {EMBEDDED_NOTE}")
    if not report["backbone_ok"]:
        raise typer.Exit(1)


def _list_models(as_json: bool) -> None:
    from lsn_core.backbones.catalogue import list_models

    for facts in list_models():
        if as_json:
            typer.echo(json.dumps(asdict(facts)))
            continue
        parameters = f"{facts.parameters / 1e6:,.0f} M" if facts.parameters else "unknown"
        download = f"about {facts.download_bytes / 1e6:,.0f} MB" if facts.download_bytes else "unknown"
        told = [f"{facts.name:<50} {facts.image_size:>4} px {parameters:>9} parameters, download {download}"]
        told += [] if facts.refusal is None else [f"no learned prompts: {facts.refusal}"]
        told += [] if facts.installed else [f"needs pip install 'lsn-core[{facts.needs}]'"]
        typer.echo("; ".join(told))


def _compiled_tower(backbone: Backbone) -> str:
    if not backbone.runtime.can_compile:
        return "none: PyTorch runs the image tower (a GPU, LSN_RUNTIME=eager, or no openvino)"
    return "kept" if backbone.runtime.is_converted else "not yet made; `lsn compile`, or a run of many photos, makes it"


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
