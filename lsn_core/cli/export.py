"""The command `export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lsn_core.cli.options import BackboneOption, class_list, open_detector


def export(
    out: Annotated[Path, typer.Option(help="Folder to write; what an earlier export left in it is replaced.")],
    detector: Annotated[
        Path | None, typer.Option(help="A trained detector file (.safetensors), or hf-hub:ORG/NAME.")
    ] = None,
    classes: Annotated[str | None, typer.Option(help="Class names for a zero-shot detector: dog,cat,elephant.")] = None,
    format: Annotated[str, typer.Option(help="onnx, openvino or torch.")] = "onnx",
    tpr: Annotated[float, typer.Option(help="Share of known images to keep.")] = 0.95,
    backbone: BackboneOption = None,
) -> None:
    """Write a detector as one graph that runs without this library: from pixels to score, class and verdict.

    Beside it come its settings (detector.json) and, for ONNX, a short Python program and a page for the browser.
    """
    from lsn_core.export import write

    exported = open_detector(detector, class_list(classes, None), backbone, "cpu")
    path = write.export(exported, out, format, tpr)  # type: ignore[arg-type]
    typer.echo(f"{path} ({path.stat().st_size / 2**20:.1f} MiB)")
