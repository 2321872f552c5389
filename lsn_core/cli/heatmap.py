"""The command `heatmap`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from lsn_core.cli.options import BackboneOption, DeviceOption, JsonOption, open_detector
from lsn_core.errors import UserError
from lsn_core.heatmaps.overlay import DEFAULT_OPACITY


def heatmap(
    image: Annotated[Path, typer.Argument(help="An image file.")],
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")],
    detector: Annotated[
        Path | None, typer.Option(help="A trained detector file (.safetensors), or hf-hub:ORG/NAME.")
    ] = None,
    classes: Annotated[str | None, typer.Option(help="Class names for a zero-shot detector: dog,cat,elephant.")] = None,
    class_name: Annotated[
        str | None, typer.Option("--class", help="Whose prompts; default: the predicted class.")
    ] = None,
    method: Annotated[str | None, typer.Option(help="How maps are made; an unknown name lists the known ones.")] = None,
    target: Annotated[str, typer.Option(help="prompts, difference (positive minus negative) or score.")] = "prompts",
    positive_only: Annotated[bool, typer.Option(help="Leave out what lowers the value.")] = False,
    opacity: Annotated[float, typer.Option(help="Of the strongest place, 0 to 1.")] = DEFAULT_OPACITY,
    backbone: BackboneOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Show where a class's positive prompt and its negative prompts respond: one picture each, and a panel."""
    from lsn_core.data.images import open_image
    from lsn_core.heatmaps.maps import explain
    from lsn_core.heatmaps.overlay import overlay, panel

    explained = open_detector(detector, classes, backbone, device)
    picture = open_image(image)
    maps = explain(explained, picture, class_name, method, target, not positive_only)
    drawn = {
        f"{image.stem}-{i}-{_plain(one.label)}.png": overlay(picture, maps, i, opacity)
        for i, one in enumerate(maps.targets)
    }
    summary = f"{image.stem}-heatmaps.png"
    drawn[summary] = panel(picture, maps, opacity)
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, map_picture in drawn.items():
            map_picture.save(out / name)
    except OSError as error:
        raise UserError(f"The pictures cannot be written to {out} ({error}). Choose another folder.") from error
    line: dict[str, Any] = {
        "file": str(image),
        "panel": str(out / summary),
        "method": maps.method,
        "target": target,
        "signed": maps.signed,
        "limit": maps.limit,
        "seen_box": list(maps.box),
        "maps": [
            {"label": one.label, "value": one.value, "file": str(out / name)}
            for one, name in zip(maps.targets, drawn, strict=False)
        ],
    }
    if as_json:
        typer.echo(json.dumps(line, ensure_ascii=False))
        return
    for one in line["maps"]:
        typer.echo(f"{one['value']:9.4f}  {one['label']}: {one['file']}")
    typer.echo(f"All of them side by side, by {maps.method}: {line['panel']}")


def _plain(label: str) -> str:
    """A label as a part of a file name."""
    return re.sub(r"[^\w]+", "-", label).strip("-")[:60]
