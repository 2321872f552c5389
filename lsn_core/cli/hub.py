"""The commands `push` and `pull`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from lsn_core.atomic import written_beside
from lsn_core.cli.options import BackboneOption
from lsn_core.errors import UserError

NameArgument = Annotated[str, typer.Argument(help="ORG/NAME of the repository on the Hugging Face Hub.")]


def push(
    detector: Annotated[Path, typer.Argument(help="A trained detector file (.safetensors).")],
    name: NameArgument,
    private: Annotated[bool, typer.Option("--private", help="A new repository is seen by its owners only.")] = False,
    license: Annotated[str | None, typer.Option(help="Of the detector, such as apache-2.0.")] = None,
    backbone: BackboneOption = None,
) -> None:
    """Publish a detector on the Hugging Face Hub, with a card made from what its file says."""
    from lsn_core.backbones.loading import load_backbone
    from lsn_core.detector.detector import Detector

    loaded = Detector.load(detector, load_backbone(backbone, "cpu") if backbone else None)
    typer.echo(loaded.push_to_hub(name, private=private, license=license))


def pull(
    name: NameArgument,
    out: Annotated[Path, typer.Option(help="Detector file to write.")],
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Fetch a detector from the Hugging Face Hub; other commands take it as --detector hf-hub:ORG/NAME, too."""
    from lsn_core.detector.file import read_detector_file
    from lsn_core.detector.hub import fetch

    if out.exists() and not force:
        raise UserError(f"{out} is there already. Give another --out, or --force.")
    found = fetch(name)
    read_detector_file(found)  # a file that is no detector is not handed on
    with written_beside(out) as temporary:
        shutil.copyfile(found, temporary)
    typer.echo(str(out))
