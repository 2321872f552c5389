"""What commands share: options, and opening what they name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lsn_core.class_names import read_class_names, split_class_names
from lsn_core.cli.output import FEW
from lsn_core.errors import UserError

if TYPE_CHECKING:
    from lsn_core.detector.detector import Detector

BackboneOption = Annotated[
    str | None,
    typer.Option(
        envvar="LSN_BACKBONE",
        help="embedded, ARCH:TAG (such as ViT-B-16:openai), ARCH:FILE.safetensors, hf-hub:ORG/REPO, local-dir:PATH, "
        "blip:ORG/REPO or blip:FOLDER. "
        "Default: the detector's own, or embedded.",
    ),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, ...")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object a line, for programs.")]
CacheOption = Annotated[
    Path | None,
    typer.Option(envvar="LSN_CACHE", help="Folder where image features are kept between runs. Default: none are kept."),
]
ClassesOption = Annotated[
    str | None, typer.Option(help='Class names for a zero-shot detector: dog,cat,"salt, pepper".')
]
ClassesFileOption = Annotated[Path | None, typer.Option(help="The same from a file, one name a line.")]
SplitOption = Annotated[
    str | None, typer.Option(help="Which split to take of data that has several, such as train or test_set.")
]
ImageColumnOption = Annotated[
    str | None, typer.Option(help="Column of the images (Parquet) or their file names (CSV), where it is not clear.")
]
LabelColumnOption = Annotated[str | None, typer.Option(help="Column of the labels, where it is not clear.")]
DATA_HELP = (
    "A folder of class folders, a zip of one, a folder or zip of images with a table of labels (labels.csv, "
    "metadata.jsonl), or Parquet with image and label columns."
)
PHOTOS_HELP = "photos, or folders, zips and Parquet files of them"


def find_detector(detector: Path) -> Path:
    """A detector file, or that of a repository on the Hub where its name is hf-hub:ORG/NAME."""
    from lsn_core.detector.hub import fetch, is_hub_name

    return fetch(str(detector)) if is_hub_name(detector) else detector


def class_list(classes: str | None, classes_file: Path | None) -> list[str] | None:
    """The class names of --classes or --classes-file; None without either. Raises UserError for both."""
    if classes is not None and classes_file is not None:
        raise UserError("Give either --classes a,b,c or --classes-file FILE, not both.")
    if classes_file is None:
        return None if classes is None else split_class_names(classes)
    try:
        data = classes_file.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{classes_file}: the file cannot be read ({reason}). Check the path.") from error
    return read_class_names(data, str(classes_file))


def open_detector(detector: Path | None, classes: list[str] | None, backbone: str | None, device: str) -> Detector:
    """The detector of a file, or a zero-shot one of class names; a UserError unless one of them is given."""
    from lsn_core.backbones.loading import EMBEDDED, load_backbone
    from lsn_core.detector.detector import Detector

    if (detector is None) == (classes is None):
        raise UserError("Give either --detector FILE or --classes a,b,c (or --classes-file FILE): one of the two.")
    if detector is not None:
        detector = find_detector(detector)
        return Detector.load(detector, load_backbone(backbone, device) if backbone else None)
    return Detector.zero_shot(load_backbone(backbone or EMBEDDED, device), classes or [])


def calibrated(detector: Detector, photos: Path) -> Detector:
    """The detector, calibrated with photos of its classes: a folder, zip or Parquet file. Raises UserError for none."""
    from lsn_core.data.features import extract_features
    from lsn_core.data.photos import load_photos

    known = load_photos(photos)
    encoded = extract_features(detector.backbone, known, progress=len(known) >= FEW, on_error="skip")
    if not len(encoded.features):
        raise UserError(
            f"{photos}: none of the {len(known)} photos to calibrate with can be read. {encoded.errors[0][1]}"
        )
    if encoded.errors:
        typer.echo(f"{len(encoded.features)} of {len(known)} photos are used for calibration.", err=True)
    return detector.calibrate(encoded.features)
