"""The command `evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from lsn_core.cli.options import DATA_HELP, BackboneOption, CacheOption, DeviceOption, JsonOption, open_detector
from lsn_core.errors import UserError

PAPER = ("lsn", "mcm")


def evaluate(
    known: Annotated[Path, typer.Option("--id", help=f"In-distribution test images. {DATA_HELP}")],
    ood: Annotated[list[str], typer.Option(help="Out-of-distribution images as NAME=DATA; may be given again.")],
    detector: Annotated[Path | None, typer.Option(help="A detector file, or hf-hub:ORG/NAME.")] = None,
    classes: Annotated[str | None, typer.Option(help="Class names for a zero-shot detector, in its place.")] = None,
    score: Annotated[
        list[str] | None,
        typer.Option(
            help="Scores to measure beside the detector's own and zero-shot-mcm; may be given again. Default: lsn, mcm."
        ),
    ] = None,
    cache: CacheOption = None,
    backbone: BackboneOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Measure how well a detector tells known images from others: AUROC, FPR95, AUPR and ID accuracy.

    Zero-shot MCM on hand-written prompts is measured on the same images, as what any other has to beat.
    """
    from lsn_core.data.features import FeatureSet, extract_features
    from lsn_core.data.labelled import LabelledImages, load_data
    from lsn_core.evaluation import Method, class_targets
    from lsn_core.evaluation import evaluate as measure
    from lsn_core.scores.registry import BASELINE, check_usable, usable_scores

    paths: dict[str, Path] = {}
    for item in ood:
        name, _, where = item.partition("=")
        if not (name and where) or name in paths:
            raise UserError(f"--ood {item!r} is not NAME=DATA, or its name is given twice.")
        paths[name] = Path(where)
    images = load_data(known)
    sets = {name: load_data(path) for name, path in paths.items()}
    measured = open_detector(detector, classes, backbone, device)
    serving = usable_scores(len(measured.class_names), measured.has)
    for name in score or ():
        check_usable(name, len(measured.class_names), measured.has)
    scores = [measured.score_name, *(score or (name for name in PAPER if name in serving))]
    scores += [BASELINE] if BASELINE in serving else []

    def encode(images: LabelledImages) -> FeatureSet:
        return extract_features(measured.backbone, images, cache=cache, on_error="skip")

    # Before the first image is opened, as the labels tell.
    targets = class_targets([images.class_names[i] for i in images.labels], measured, known.name)
    encoded = encode(images)
    evaluation = measure(
        [Method(name, measured, name) for name in dict.fromkeys(scores)],
        encoded.features,
        [targets[i] for i in encoded.kept],
        {name: encode(others).features for name, others in sets.items()},
    )
    for row in evaluation.rows:
        default = row.score == measured.score_name
        values = "  ".join(f"{name.upper()} {value:.4f}" for name, value in row.metrics.as_dict().items())
        line = f"{row.ood:>16} {row.score:>16}  {values}{'  (the detector)' if default else ''}"
        typer.echo(json.dumps(row.as_dict() | {"default": default}) if as_json else line)
    if not as_json:
        typer.echo(f"ID accuracy {evaluation.rows[0].id_accuracy:.4f} on {len(encoded.features)} images")
