"""The command `evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from lsn_core.cli.options import DATA_HELP, BackboneOption, CacheOption, DeviceOption, JsonOption
from lsn_core.errors import UserError


def evaluate(
    detector: Annotated[Path, typer.Option(help="A detector file.")],
    known: Annotated[Path, typer.Option("--id", help=f"In-distribution test images. {DATA_HELP}")],
    ood: Annotated[list[str], typer.Option(help="Out-of-distribution images as NAME=DATA; may be given again.")],
    score: Annotated[list[str] | None, typer.Option(help="Scores to measure; default: the detector's and mcm.")] = None,
    cache: CacheOption = None,
    backbone: BackboneOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Measure how well a detector tells known images from others: AUROC, FPR95, AUPR and ID accuracy."""
    from lsn_core.backbones.loading import load_backbone
    from lsn_core.data.features import FeatureSet, extract_features
    from lsn_core.data.labelled import LabelledImages, load_data
    from lsn_core.detector.detector import Detector
    from lsn_core.evaluation import Method, class_targets
    from lsn_core.evaluation import evaluate as measure

    sets: dict[str, Path] = {}
    for item in ood:
        name, _, where = item.partition("=")
        if not (name and where) or name in sets:
            raise UserError(f"--ood {item!r} is not NAME=DATA, or its name is given twice.")
        sets[name] = Path(where)
    measured = Detector.load(detector, load_backbone(backbone, device) if backbone else None)
    scores = list(dict.fromkeys(score or [measured.score_name, "mcm"]))

    def encode(images: LabelledImages) -> FeatureSet:
        return extract_features(measured.backbone, images, cache=cache, on_error="skip")

    images = load_data(known)
    encoded = encode(images)
    targets = class_targets([images.class_names[i] for i in images.labels[encoded.kept]], measured, known.name)
    others = {name: encode(load_data(path)).features for name, path in sets.items()}
    evaluation = measure([Method(name, measured, name) for name in scores], encoded.features, targets, others)
    for row in evaluation.rows:
        values = "  ".join(f"{name.upper()} {value:.4f}" for name, value in row.metrics.as_dict().items())
        typer.echo(json.dumps(row.as_dict()) if as_json else f"{row.ood:>16} {row.score:>16}  {values}")
    if not as_json:
        typer.echo(f"ID accuracy {evaluation.rows[0].id_accuracy:.4f} on {len(encoded.features)} images")
