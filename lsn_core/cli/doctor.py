"""The command `doctor`."""

from __future__ import annotations

import importlib.metadata
import json
import os
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
    suggest: Annotated[bool, typer.Option("--suggest", help="Name a backbone that fits the memory instead.")] = False,
    memory_gib: Annotated[
        float | None,
        typer.Option("--memory-gib", min=0.0, help="For --suggest: GiB to use; what is free is the default."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """What is installed, which device is used, which backbones are at hand and where caches are."""
    if models:
        return _list_models(as_json)
    if suggest:
        return _suggest(memory_gib, device, as_json)
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
        "ray",
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
    if cluster := os.environ.get("LSN_CLUSTER", "").strip():
        from lsn_core.jobs.cluster.address import describe_cluster

        report["cluster"] = describe_cluster(cluster)
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
        size = f"{facts.image_size:>4} px {parameters:>9} parameters"
        told = [f"{facts.name:<50} {size}, licence {facts.licence or 'unknown':<12}  download {download}"]
        told += [] if facts.refusal is None else [f"no learned prompts: {facts.refusal}"]
        told += [] if facts.only_for is None else [f"for {facts.only_for} only"]
        told += [] if facts.installed else [f"needs pip install 'lsn-core[{facts.needs}]'"]
        typer.echo("; ".join(told))


def _suggest(memory_gib: float | None, device: str, as_json: bool) -> None:
    from lsn_core.backbones.loading import resolve_device
    from lsn_core.suggested import SUGGESTIONS, suggest_backbone

    device = resolve_device(device)
    memory_gib = _free_gib(device) if memory_gib is None else memory_gib
    best = suggest_backbone(memory_gib, device)
    for one in SUGGESTIONS:
        facts = asdict(one) | {"memory_gib": round(one.memory_gib, 2), "suggested": one == best}
        if as_json:
            typer.echo(json.dumps(facts))
            continue
        mark = "->" if one == best else "  "
        size = f"{one.parameters / 1e6:>6,.0f} M {one.image_size:>4} px {one.memory_gib:>5.1f} GiB"
        only = f" For {one.only_for} only." if one.only_for else ""
        typer.echo(f"{mark} {one.name:<33}{size}  {one.licence:<10}  {one.good_for}{only}")
    if not as_json:
        typer.echo(f"For {memory_gib:.1f} GiB of {device}: {best.name} ({best.source}; {best.terms}).")


def _free_gib(device: str) -> float:
    """Memory that is free, GiB: of the GPU, or of the machine where its system tells."""
    import torch

    if device.startswith("cuda"):
        return float(torch.cuda.mem_get_info(device)[0]) / 2**30
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return 4.0  # a system that does not tell: what a small machine has left
    return float(next(line.split()[1] for line in lines if line.startswith("MemAvailable"))) / 2**20


def _compiled_tower(backbone: Backbone) -> str:
    if not backbone.runtime.can_compile:
        return "none: PyTorch runs the image tower (a GPU, LSN_RUNTIME=eager, or no openvino)"
    return "kept" if backbone.runtime.is_converted else "not yet made; `lsn compile`, or a run of many photos, makes it"


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
