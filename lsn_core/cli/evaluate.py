"""The command `evaluate`."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lsn_core.cli.cluster import RayOption, WorkersOption, chosen_cluster, image_rows
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
from lsn_core.cli.output import FEW
from lsn_core.errors import UserError

if TYPE_CHECKING:
    from lsn_core.data.collection import ImageList
    from lsn_core.data.labelled import LabelledImages

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
    ray: RayOption = None,
    ray_workers: WorkersOption = None,
    backbone: BackboneOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Measure how well a detector tells known images from others: AUROC, FPR95, AUPR and ID accuracy.

    Zero-shot MCM on hand-written prompts is measured on the same images, as what any other has to beat. Of
    in-distribution data that holds several splits, the test split is taken (and this is said) unless another is named.
    """
    from lsn_core.data.collection import ImageCollection, join
    from lsn_core.data.feature_cache import DiskFeatureCache
    from lsn_core.data.features import FeatureSet, gather
    from lsn_core.data.remote import check_here
    from lsn_core.evaluation import Method, class_targets
    from lsn_core.evaluation import evaluate as measure
    from lsn_core.scores.registry import BASELINE, check_usable, usable_scores

    check_here(cache=cache)
    paths: dict[str, Path] = {}
    for item in ood:
        name, _, where = item.partition("=")
        if not (name and where) or name in paths:
            raise UserError(f"--ood {item!r} is not NAME=DATA, or its name is given twice.")
        paths[name] = Path(where)
    cluster = chosen_cluster(ray, ray_workers, device)
    reopen = partial(_open_sets, known, split, image_column, label_column, [*paths.values()])
    images, others = reopen()
    measured = open_detector(
        detector, class_list(classes, classes_file), backbone, device if cluster is None else "auto"
    )
    serving = usable_scores(len(measured.class_names), measured.has)
    for name in score or ():
        check_usable(name, len(measured.class_names), measured.has)
    scores = [measured.score_name, *(score or (name for name in PAPER if name in serving))]
    scores += [BASELINE] if BASELINE in serving else []

    # Before the first image is opened, as the labels tell.
    targets = class_targets([images.class_names[i] for i in images.labels], measured, known.name)
    together: list[FeatureSet] = []
    with ExitStack() as closed:
        encoder, kept = measured.backbone, None
        if cache is not None:
            kept = closed.enter_context(closing(DiskFeatureCache(cache, encoder.fingerprint, encoder.dim)))
        rows = image_rows(cluster, encoder, join([images, *others]), partial(_open_joined, reopen), kept)
        closed.enter_context(closing(rows))
        parts: list[ImageCollection] = [images, *others]
        for name, part in zip([known.name, *paths], parts, strict=True):
            found = gather(islice(rows, len(part)), part.names, encoder.dim, progress=len(part) >= FEW, on_error="skip")
            if not len(found.features):
                raise UserError(f"{name}: none of its {len(part)} images can be read. {found.errors[0][1]}")
            together.append(found)
    encoded, *unknown = together
    evaluation = measure(
        [Method(name, measured, name) for name in dict.fromkeys(scores)],
        encoded.features,
        [targets[i] for i in encoded.kept],
        {name: found.features for name, found in zip(paths, unknown, strict=True)},
    )
    for row in evaluation.rows:
        default = row.score == measured.score_name
        values = "  ".join(f"{name.upper()} {value:.4f}" for name, value in row.metrics.as_dict().items())
        line = f"{row.ood:>16} {row.score:>16}  {values}{'  (the detector)' if default else ''}"
        typer.echo(json.dumps(row.as_dict() | {"default": default}) if as_json else line)
    if not as_json:
        typer.echo(f"ID accuracy {evaluation.rows[0].id_accuracy:.4f} on {len(encoded.features)} images")


def _open_sets(
    known: Path, split: str | None, image_column: str | None, label_column: str | None, ood: list[Path]
) -> tuple[LabelledImages, list[ImageList]]:
    """The in-distribution images, and each set of others."""
    from lsn_core.data.labelled import load_data
    from lsn_core.data.photos import load_photos
    from lsn_core.data.splits import TEST, VALIDATION

    images = load_data(
        known, split=split, guess=[TEST, VALIDATION], image_column=image_column, label_column=label_column
    )
    return images, [load_photos(path) for path in ood]


def _open_joined(reopen: Callable[[], tuple[LabelledImages, list[ImageList]]]) -> ImageList:
    from lsn_core.data.collection import join

    images, others = reopen()
    return join([images, *others])
