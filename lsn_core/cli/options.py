"""What commands share: options, and opening what they name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lsn_core.class_names import split_class_names
from lsn_core.errors import UserError

if TYPE_CHECKING:
    from lsn_core.detector.detector import Detector

BackboneOption = Annotated[
    str | None,
    typer.Option(
        envvar="LSN_BACKBONE",
        help="embedded, ARCH:TAG (such as ViT-B-16:openai), ARCH:FILE.safetensors, hf-hub:ORG/REPO or local-dir:PATH. "
        "Default: the detector's own, or embedded.",
    ),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, ...")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object a line, for programs.")]
CacheOption = Annotated[
    Path | None,
    typer.Option(envvar="LSN_CACHE", help="Folder where image features are kept between runs. Default: none are kept."),
]
DATA_HELP = "A folder of class folders, a zip of one, or a Parquet file with image and label columns."


def find_detector(detector: Path) -> Path:
    """A detector file, or that of a repository on the Hub where its name is hf-hub:ORG/NAME."""
    from lsn_core.detector.hub import fetch, is_hub_name

    return fetch(str(detector)) if is_hub_name(detector) else detector


def open_detector(detector: Path | None, classes: str | None, backbone: str | None, device: str) -> Detector:
    """The detector of a file, or a zero-shot one of class names 'a,b,c'; a UserError unless one of them is given."""
    from lsn_core.backbones.loading import EMBEDDED, load_backbone
    from lsn_core.detector.detector import Detector

    if (detector is None) == (classes is None):
        raise UserError("Give either --detector FILE or --classes a,b,c (one of the two).")
    if detector is not None:
        detector = find_detector(detector)
        return Detector.load(detector, load_backbone(backbone, device) if backbone else None)
    return Detector.zero_shot(load_backbone(backbone or EMBEDDED, device), split_class_names(classes or ""))
