"""The command `score`."""

from __future__ import annotations

import logging
import math
import shutil
import sys
from contextlib import AbstractContextManager, ExitStack, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from tqdm import tqdm

from lsn_core.cli.cluster import RayOption, WorkersOption, chosen_cluster, image_rows
from lsn_core.cli.ending import unwound_by_signals
from lsn_core.cli.options import (
    PHOTOS_HELP,
    BackboneOption,
    CacheOption,
    ClassesFileOption,
    ClassesOption,
    DeviceOption,
    ImageColumnOption,
    JsonOption,
    calibrated,
    class_list,
    open_detector,
)
from lsn_core.cli.output import echo, echo_json, image_bar
from lsn_core.errors import UserError
from lsn_core.handoff.files import Format, check_target, common_folder, open_handoff
from lsn_core.handoff.verdict import Origin

if TYPE_CHECKING:
    from lsn_core.data.collection import ImageList
    from lsn_core.verdicts import Folder, Writer

logger = logging.getLogger(__name__)


def score(
    images: Annotated[list[Path], typer.Argument(help=f"What to score: {PHOTOS_HELP}.")],
    detector: Annotated[
        Path | None, typer.Option(help="A trained detector file (.safetensors), or hf-hub:ORG/NAME.")
    ] = None,
    classes: ClassesOption = None,
    classes_file: ClassesFileOption = None,
    calibrate: Annotated[
        Path | None,
        typer.Option(help="Photos of the known classes to calibrate the detector with: a folder, zip or Parquet file."),
    ] = None,
    score: Annotated[
        str | None, typer.Option(help="Score that gives the verdicts, in place of the detector's own.")
    ] = None,
    tpr: Annotated[float, typer.Option(help="Share of known images to keep.")] = 0.95,
    out: Annotated[
        Path | None,
        typer.Option(help="File of all verdicts to write: .csv, .jsonl or .parquet, by its ending; or see --format."),
    ] = None,
    form: Annotated[
        Format | None,
        typer.Option(
            "--format",
            help="Write --out for a labelling tool: Label Studio's tasks (.json, and the labelling interface beside it "
            "as .xml), a FiftyOne dataset (a new folder) or COCO (.json).",
        ),
    ] = None,
    image_prefix: Annotated[
        str | None,
        typer.Option(
            help="With --format label-studio or coco: the address of the photos' folder, such as "
            "https://example.org/photos/ or s3://bucket/photos/. Default: Label Studio's local files; paths in COCO.",
        ),
    ] = None,
    copy_unknown: Annotated[
        Path | None, typer.Option(help="New folder for copies of the images that are none of the classes.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where an earlier run with this --out was cut short, by content.")
    ] = False,
    image_column: ImageColumnOption = None,
    cache: CacheOption = None,
    bf16: Annotated[
        bool,
        typer.Option("--bf16", help="Run the image tower in bf16 on a CPU: faster, for other scores; see --calibrate."),
    ] = False,
    ray: RayOption = None,
    ray_workers: WorkersOption = None,
    backbone: BackboneOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Give each image a verdict: in distribution (and which class), or out of distribution.

    A file that cannot be read gets its own line with an error, the others go on, and the exit code is 1.
    """
    from lsn_core.data.feature_cache import DiskFeatureCache
    from lsn_core.data.photos import open_photos
    from lsn_core.data.remote import check_here
    from lsn_core.verdicts import Folder, open_writer

    check_here(out=out, copy_unknown=copy_unknown, cache=cache)
    if resume and out is None:
        raise UserError("--resume goes on with the file of --out: give that, too.")
    if form is not None:
        check_target(form, out, image_prefix)
    elif image_prefix is not None:
        raise UserError("--image-prefix serves --format label-studio and coco only. Name one of them, or leave it out.")
    cluster = chosen_cluster(ray, ray_workers, device)
    reopen = partial(open_photos, images, image_column=image_column)
    photos = reopen()
    place = common_folder(photos.names, images) if form is not None else None
    folder = Folder(copy_unknown, photos.names) if copy_unknown is not None else None
    here = device if cluster is None else "auto"
    scorer = open_detector(detector, class_list(classes, classes_file), backbone, here)
    if score is not None and score != scorer.score_name:
        scorer = scorer.with_score(score)
    if bf16:
        if scorer.calibration is not None and calibrate is None:
            raise UserError(
                "The detector's threshold was calibrated in fp32 and promises nothing in bf16: give --calibrate photos "
                "of its classes, or leave out --bf16."
            )
        scorer.backbone.runtime.use_bf16()
    if calibrate is not None:
        scorer = calibrated(scorer, calibrate)
    failed = 0
    bar = image_bar(len(photos), "Scoring")
    writing: AbstractContextManager[Writer] | None = None
    if out is not None:
        if form is not None and place is not None:
            model = detector.stem if detector is not None else "zero-shot"
            origin = Origin(f"{model} ({scorer.score_name})", scorer.class_names, place, image_prefix)
            writing = open_handoff(form, out, origin)
        else:
            writing = open_writer(out)
    so_far = out.with_name(f"{out.name}.resume") if resume and out is not None else None
    with ExitStack() as closed:
        closed.enter_context(unwound_by_signals())
        closed.callback(bar.close)
        write = closed.enter_context(writing) if writing is not None else None
        kept = None
        if where := cache or so_far:
            encoder = scorer.backbone
            kept = closed.enter_context(closing(DiskFeatureCache(where, encoder.fingerprint, encoder.dim)))
        rows = image_rows(cluster, scorer.backbone, photos, reopen, kept)
        closed.enter_context(closing(rows))
        told = as_json or (out is not None and out.suffix.lower() == ".jsonl")  # where cosines to all prompts go
        predictions = scorer.stream_rows(rows, tpr, cosines=told)
        for index, prediction in enumerate(predictions):
            failed += prediction.error is not None
            line = {"file": photos.names[index], **prediction.as_dict()}
            if folder is not None and prediction.verdict == "OOD":
                failed += not _copied(folder, photos, index)
            if write is not None:
                write(line)
            if write is None or as_json:
                with tqdm.external_write_mode(file=sys.stdout):
                    echo_json(line) if as_json else echo(describe(line))
            bar.update()
    if so_far is not None:
        shutil.rmtree(so_far, ignore_errors=True)
    if not as_json and scorer.calibration is None:
        typer.echo("The threshold is uncalibrated: give --calibrate a folder of photos of these classes.", err=True)
    if failed:
        raise typer.Exit(1)


def _copied(folder: Folder, photos: ImageList, index: int) -> bool:
    try:
        content = photos.read(index)
    except UserError as error:  # it was there when it was scored
        logger.warning("Not copied: %s", error)
        return False
    folder.put(photos.names[index], content)
    return True


def describe(line: dict[str, Any]) -> str:
    """One readable line about one image."""
    if line["error"]:
        return f"{'ERROR':5} {line['error']}"
    name = (
        line["predicted_class"]
        if line["verdict"] == "ID"
        else f"not one of the classes, nearest {line['predicted_class']}"
    )
    threshold = "none" if line["threshold"] is None or math.isinf(line["threshold"]) else f"{line['threshold']:.5f}"
    p_value = f", p-value {line['p_value']:.3f}" if line["p_value"] is not None else ", uncalibrated"
    return f"{line['verdict']:5} {line['file']}: {name} (score {line['score']:.5f}, threshold {threshold}{p_value})"
