"""The command `evaluate`."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Annotated, Any

import typer

from lsn_core.cli.options import DATA_HELP, BackboneOption, DeviceOption, JsonOption, app, plain_errors
from lsn_core.cli.train import CacheOption, _folder
from lsn_core.errors import UserError

log = logging.getLogger(__name__)


@app.command()
@plain_errors
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
    from lsn_core.data.features import extract_features
    from lsn_core.data.labelled import load_data
    from lsn_core.detector.detector import Detector
    from lsn_core.evaluation import Method, class_targets
    from lsn_core.evaluation import evaluate as measure

    sets: dict[str, Path] = {}
    for item in ood:
        name, _, where = item.partition("=")
        if not (name and where) or name in sets:
            raise UserError(f"--ood {item!r} is not NAME=DATA, or its name is given twice.")
        sets[name] = Path(where)
    judge = Detector.load(detector, load_backbone(backbone, device) if backbone else None)
    scores = list(dict.fromkeys(score or [judge.score_name, "mcm"]))

    def features(path: Path) -> tuple[Any, Any, Any]:
        images = load_data(path)
        found = extract_features(judge.backbone, images, cache=_folder(cache), on_error="skip")
        for name, problem in found.errors:
            log.warning("Left out: %s: %s", name, problem)
        return images, found.features, images.labels[found.kept]

    images, id_features, id_labels = features(known)
    targets = class_targets([images.class_names[i] for i in id_labels], judge, known.name)
    others = {name: features(path)[1] for name, path in sets.items()}
    found = measure([Method(kind, judge, kind) for kind in scores], id_features, targets, others)
    for row in found.rows:
        shown = "  ".join(f"{name.upper()} {value:.4f}" for name, value in row.metrics.as_dict().items())
        typer.echo(json.dumps(row.as_dict()) if as_json else f"{row.ood:>16} {row.score:>16}  {shown}")
    if not as_json:
        typer.echo(f"ID accuracy {found.rows[0].id_accuracy:.4f} on {len(id_features)} images")
