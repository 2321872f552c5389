"""The command `evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from lsn_core.cli.options import (
    DATA_HELP,
    BackboneOption,
    CacheOption,
    ClassesFileOption,
    ClassesOption,
    DeviceOption,
    ImageColumnOption,
    JsonOption,
    LabelColumnOption,
    SplitOption,
    class_list,
    open_detector,
)
from lsn_core.errors import UserError

PAPER = ("lsn", "mcm")


def evaluate(
    known: Annotated[Path, typer.Option("--id", help=f"In-distribution test images. {DATA_HELP}")],
    ood: Annotated[
        list[str],
        typer.Option(
            help="Out-of-distribution images as NAME=DATA, which need no labels: a folder, zip or Parquet file; may be "
            "given again."
        ),
    ],
    detector: Annotated[Path | None, typer.Option(help="A detector file, or hf-hub:ORG/NAME.")] = None,
    classes: ClassesOption = None,
    classes_file: ClassesFileOption = None,
    score: Annotated[
        list[str] | None,
        typer.Option(
            help="Scores to measure beside the detector's own and zero-shot-mcm; may be given again. Default: lsn, mcm."
        ),
    ] = None,
    split: SplitOption = None,
    image_column: ImageColumnOption = None,
    label_column: LabelColumnOption = None,
    cache: CacheOption = None,
    backbone: BackboneOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Measure how well a detector tells known images from others: AUROC, FPR95, AUPR and ID accuracy.

    Zero-shot MCM on hand-written prompts is measured on the same images, as what any other has to beat. Of
    in-distribution data that holds several splits, the test split is taken (and this is said) unless another is named.
    """
    from lsn_core.data.collection import ImageCollection
    from lsn_core.data.features import FeatureSet, extract_features
    from lsn_core.data.labelled import load_data
    from lsn_core.data.photos import load_photos
    from lsn_core.data.splits import TEST, VALIDATION
    from lsn_core.evaluation import Method, class_targets
    from lsn_core.evaluation import evaluate as measure
    from lsn_core.scores.registry import BASELINE, check_usable, usable_scores

    paths: dict[str, Path] = {}
    for item in ood:
        name, _, where = item.partition("=")
        if not (name and where) or name in paths:
            raise UserError(f"--ood {item!r} is not NAME=DATA, or its name is given twice.")
        paths[name] = Path(where)
    images = load_data(
        known, split=split, guess=[TEST, VALIDATION], image_column=image_column, label_column=label_column
    )
    sets = {name: load_photos(path) for name, path in paths.items()}
    measured = open_detector(detector, class_list(classes, classes_file), backbone, device)
    serving = usable_scores(len(measured.class_names), measured.has)
    for name in score or ():
        check_usable(name, len(measured.class_names), measured.has)
    scores = [measured.score_name, *(score or (name for name in PAPER if name in serving))]
    scores += [BASELINE] if BASELINE in serving else []

    def encode(name: str, images: ImageCollection) -> FeatureSet:
        encoded = extract_features(measured.backbone, images, cache=cache, on_error="skip")
        if not len(encoded.features):
            raise UserError(f"{name}: none of its {len(images)} images can be read. {encoded.errors[0][1]}")
        return encoded

    # Before the first image is opened, as the labels tell.
    targets = class_targets([images.class_names[i] for i in images.labels], measured, known.name)
    encoded = encode(known.name, images)
    evaluation = measure(
        [Method(name, measured, name) for name in dict.fromkeys(scores)],
        encoded.features,
        [targets[i] for i in encoded.kept],
        {name: encode(name, others).features for name, others in sets.items()},
    )
    for row in evaluation.rows:
        default = row.score == measured.score_name
        values = "  ".join(f"{name.upper()} {value:.4f}" for name, value in row.metrics.as_dict().items())
        line = f"{row.ood:>16} {row.score:>16}  {values}{'  (the detector)' if default else ''}"
        typer.echo(json.dumps(row.as_dict() | {"default": default}) if as_json else line)
    if not as_json:
        typer.echo(f"ID accuracy {evaluation.rows[0].id_accuracy:.4f} on {len(encoded.features)} images")
