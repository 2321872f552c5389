"""The command `heatmap`."""

from __future__ import annotations

import hashlib
import os
import re
from itertools import count
from pathlib import Path
from typing import Annotated, Any

import typer

from lsn_core.cli.options import (
    BackboneOption,
    ClassesFileOption,
    ClassesOption,
    DeviceOption,
    JsonOption,
    class_list,
    open_detector,
)
from lsn_core.cli.output import echo, echo_json
from lsn_core.errors import UserError
from lsn_core.heatmaps import DEFAULT_OPACITY

_SOURCE = "Source"  # text in a picture: SHA-256 of the photo that it is of


def heatmap(
    image: Annotated[Path, typer.Argument(help="An image file.")],
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")],
    detector: Annotated[
        Path | None, typer.Option(help="A trained detector file (.safetensors), or hf-hub:ORG/NAME.")
    ] = None,
    classes: ClassesOption = None,
    classes_file: ClassesFileOption = None,
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
    from PIL.PngImagePlugin import PngInfo

    from lsn_core.data.images import open_image, printable, read_image_file
    from lsn_core.heatmaps.maps import explain
    from lsn_core.heatmaps.overlay import overlay, panel

    content = read_image_file(image, printable(str(image)))
    explained = open_detector(detector, class_list(classes, classes_file), backbone, device)
    picture = open_image(content, name=str(image))
    maps = explain(explained, picture, class_name, method, target, not positive_only)
    digest = hashlib.sha256(content).hexdigest()
    stem = _free_stem(out, printable(image.stem), digest)
    drawn = {
        f"{stem}-{i}-{_plain(one.label)}.png": overlay(picture, maps, i, opacity) for i, one in enumerate(maps.targets)
    }
    summary = f"{stem}-heatmaps.png"
    drawn[summary] = panel(picture, maps, opacity)
    about = PngInfo()
    about.add_text(_SOURCE, digest)
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, map_picture in drawn.items():
            map_picture.save(out / name, pnginfo=about)
    except OSError as error:
        raise UserError(f"The pictures cannot be written to {out} ({error}). Choose another folder.") from error
    line: dict[str, Any] = {
        "file": printable(str(image)),
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
        echo_json(line)
        return
    for one in line["maps"]:
        echo(f"{one['value']:9.4f}  {one['label']}: {one['file']}")
    echo(f"All of them side by side, by {maps.method}: {line['panel']}")


def _free_stem(out: Path, stem: str, digest: str) -> str:
    """What the pictures' names begin with: a photo of the same stem as an earlier, other one gets a number."""
    from PIL import Image

    if not os.access(out, os.R_OK | os.X_OK) or not out.is_dir():
        return stem  # whoever writes there is told what is wrong
    for number in count(1):
        tried = stem if number == 1 else f"{stem}-{number}"
        try:
            with Image.open(out / f"{tried}-heatmaps.png", formats=["PNG"]) as there:
                there.load()
                if there.info.get(_SOURCE) == digest:
                    return tried
        except FileNotFoundError:
            return tried
        except (OSError, SyntaxError, ValueError):
            continue
    raise AssertionError


def _plain(label: str) -> str:
    """A label as a part of a file name."""
    return re.sub(r"[^\w]+", "-", label).strip("-")[:60]
