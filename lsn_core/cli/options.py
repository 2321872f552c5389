"""The command line: what all commands share, `score` and `doctor`."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import math
import platform
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

import typer
from tqdm import tqdm

from lsn_core.errors import UserError

if TYPE_CHECKING:
    from lsn_core.detector.detector import Detector

log = logging.getLogger(__name__)
P = ParamSpec("P")
R = TypeVar("R")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Out-of-distribution detection with CLIP's positive and negative prompts (LSN).",
)

BackboneOption = Annotated[
    str | None,
    typer.Option(
        envvar="LSN_BACKBONE",
        help="embedded, ARCH:TAG (such as ViT-B-16:openai), hf-hub:ORG/REPO or local-dir:PATH. "
        "Default: the detector's own, or embedded.",
    ),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, ...")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object a line, for programs.")]
DATA_HELP = "A folder of class folders, a zip of one, or a Parquet file with image and label columns."


def plain_errors(command: Callable[P, R]) -> Callable[P, R]:
    """A user's mistake ends the command with one sentence and exit code 2, not with a traceback."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except UserError as error:
            typer.echo(f"Error: {error}", err=True)
            raise typer.Exit(2) from error

    return run


@app.callback()
def main(verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more on standard error.")] = False) -> None:
    """Options of all commands."""
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(levelname)s %(message)s")
    if not verbose:
        logging.getLogger().addFilter(_quiet)
        # open_clip and the hub client announce every step on the root logger.
        logging.getLogger("httpx").setLevel(logging.ERROR)


def _quiet(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR or record.name.startswith("lsn_core")


@app.command()
@plain_errors
def score(
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    detector: Annotated[Path | None, typer.Option(help="A trained detector file (.safetensors).")] = None,
    classes: Annotated[str | None, typer.Option(help="Class names for a zero-shot detector: dog,cat,elephant.")] = None,
    calibrate: Annotated[
        Path | None, typer.Option(help="Folder of photos of the known classes, to calibrate a zero-shot detector.")
    ] = None,
    tpr: Annotated[float, typer.Option(help="Share of known images to keep.")] = 0.95,
    backbone: BackboneOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Judge images: in distribution (and which class), or out of distribution.

    A file that cannot be read gets its own line with an error, the others go on, and the exit code is 1.
    """
    import torch

    from lsn_core.data.images import find_images, open_image

    if detector is not None and calibrate is not None:
        raise UserError("A trained detector is calibrated already: --calibrate goes with --classes.")
    judge = open_judge(detector, classes, backbone, device)
    if calibrate is not None:
        known = find_images([calibrate])
        bar = tqdm(known, desc="Calibrating", unit="image", disable=len(known) < 20)
        judge = judge.calibrate(torch.cat([judge.backbone.encode_images([open_image(path)]) for path in bar]))
    files = find_images(images)
    if not files:
        raise UserError(f"No images were found in {', '.join(str(path) for path in images)}.")
    failed = 0
    # Chunks keep memory bounded and let lines appear while a long run goes on.
    bar = tqdm(total=len(files), desc="Scoring", unit="image", disable=len(files) < 20)
    for start in range(0, len(files), 64):
        chunk = files[start : start + 64]
        for file, prediction in zip(chunk, judge.predict(chunk, tpr, on_image=bar.update), strict=True):
            failed += prediction.error is not None
            line = {"file": str(file), **prediction.as_dict()}
            with tqdm.external_write_mode(file=sys.stdout):
                typer.echo(json.dumps(line, ensure_ascii=False, allow_nan=False) if as_json else describe(line))
    bar.close()
    if not as_json and judge.calibration is None:
        typer.echo("The threshold is uncalibrated: give --calibrate a folder of photos of these classes.", err=True)
    if failed:
        raise typer.Exit(1)


@app.command()
@plain_errors
def doctor(backbone: BackboneOption = None, device: DeviceOption = "auto", as_json: JsonOption = False) -> None:
    """What is installed, which device is used, which backbones are at hand and where caches are."""
    import torch
    from huggingface_hub.constants import HF_HUB_CACHE

    from lsn_core.backbones.backbone import EMBEDDED, EMBEDDED_DIR, EMBEDDED_NOTE, load_backbone, resolve_device

    backbone = backbone or EMBEDDED
    names = ("lsn-core", "torch", "torchvision", "open_clip_torch", "timm", "gradio", "grad-cam", "numpy", "pillow")
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
    except UserError as error:
        report["backbone_ok"] = False
        report["problem"] = str(error)
    if as_json:
        typer.echo(json.dumps(report))
    else:
        for key, value in report.items():
            shown = (
                ", ".join(f"{k} {v or 'not installed'}" for k, v in value.items()) if isinstance(value, dict) else value
            )
            typer.echo(f"{key.replace('_', ' '):>20}  {shown}")
        if backbone == EMBEDDED:
            typer.echo(f"{'note':>20}  {EMBEDDED_NOTE}")
    if not report["backbone_ok"]:
        raise typer.Exit(1)


def open_judge(detector: Path | None, classes: str | None, backbone: str | None, device: str) -> Detector:
    """The detector of a file, or a zero-shot one of class names 'a,b,c'; a UserError unless one of them is given."""
    from lsn_core.backbones.backbone import EMBEDDED, load_backbone
    from lsn_core.detector.detector import Detector

    if (detector is None) == (classes is None):
        raise UserError("Give either --detector FILE or --classes a,b,c (one of the two).")
    if detector is not None:
        return Detector.load(detector, load_backbone(backbone, device) if backbone else None)
    return Detector.zero_shot(load_backbone(backbone or EMBEDDED, device), split_names(classes or ""))


def split_names(text: str) -> list[str]:
    """Class names of 'a, b, c' or of one name a line; empty ones are left out."""
    return [name.strip() for name in text.replace("\n", ",").split(",") if name.strip()]


def describe(line: dict[str, Any]) -> str:
    """One readable line about one image."""
    if line["error"]:
        return f"{'ERROR':5} {line['error']}"
    name = (
        line["predicted_class"]
        if line["verdict"] == "ID"
        else f"not one of the classes, nearest {line['predicted_class']}"
    )
    threshold = "none" if line["threshold"] is None or math.isinf(line["threshold"]) else f"{line['threshold']:.5f}"
    p_value = f", p-value {line['p_value']:.3f}" if line["p_value"] is not None else ", uncalibrated"
    return f"{line['verdict']:5} {line['file']}: {name} (score {line['score']:.5f}, threshold {threshold}{p_value})"


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
