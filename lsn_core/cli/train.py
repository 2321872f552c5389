"""The command `train`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lsn_core.atomic import check_writable
from lsn_core.cli.options import (
    DATA_HELP,
    BackboneOption,
    CacheOption,
    DeviceOption,
    ImageColumnOption,
    JsonOption,
    LabelColumnOption,
    SplitOption,
)
from lsn_core.errors import UserError

if TYPE_CHECKING:
    from lsn_core.detector.detector import Detector


def train(
    data: Annotated[Path, typer.Argument(help=DATA_HELP)],
    out: Annotated[Path, typer.Option(help="Detector file to write (.safetensors).")],
    preset: Annotated[str, typer.Option(help="fast, paper (as printed) or reference (as the authors' code).")] = "fast",
    method: Annotated[str, typer.Option(help="coop or cocoop.")] = "coop",
    shots: Annotated[int | None, typer.Option(help="Most images per class; default: the preset's.")] = None,
    updates: Annotated[
        int | None,
        typer.Option(help="Steps of learning for each kind of prompt; default: the preset's (fast: 50 and 60)."),
    ] = None,
    score: Annotated[
        str | None, typer.Option(help="Score that gives the verdicts; default: chosen on hidden classes (fast).")
    ] = None,
    ablation: Annotated[str, typer.Option(help="A row of the paper's Tables 4 and 5.")] = "full",
    seed: Annotated[int, typer.Option(help="Seed of every random choice.")] = 0,
    split: SplitOption = None,
    image_column: ImageColumnOption = None,
    label_column: LabelColumnOption = None,
    precision: Annotated[str, typer.Option(help="fp32, or bf16: faster on a GPU, or a CPU that has it.")] = "fp32",
    classes_per_step: Annotated[
        int | None, typer.Option(help="Classes that a step's loss is over, for long lists; default: all.")
    ] = None,
    checkpoints: Annotated[Path | None, typer.Option(help="Folder for the run's checkpoint; resumes from it.")] = None,
    cache: CacheOption = None,
    backbone: BackboneOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Learn positive and negative prompts from labelled photos and write a calibrated detector.

    Of data that holds several splits, the training split is taken (and this is said) unless another is named.
    Class lists too long for one GPU are divided over several: torchrun --nproc-per-node N -m lsn_core train ...
    """
    from lsn_core.backbones.loading import EMBEDDED, load_backbone, resolve_device
    from lsn_core.data.labelled import load_data
    from lsn_core.data.remote import check_here
    from lsn_core.data.splits import TRAIN
    from lsn_core.progress import progress_bar
    from lsn_core.scores.registry import get_score
    from lsn_core.training.from_images import encode_shots, train_from_images
    from lsn_core.training.loop import Progress
    from lsn_core.training.presets import ablate, get_preset, with_updates
    from lsn_core.training.shards import open_shards

    check_here(out=out, checkpoints=checkpoints, cache=cache)
    started = time.monotonic()
    changes: dict[str, Any] = {"seed": seed, "precision": precision, "classes_per_step": classes_per_step}
    if shots is not None:
        changes["shots"] = shots
    if score is not None:
        get_score(score)
        changes["score_name"] = score
    config = ablate(get_preset(preset, method, **changes), ablation)
    if updates is not None:
        config = with_updates(config, updates)
    if out.suffix != ".safetensors" or not out.parent.is_dir():
        raise UserError(f"{out} must end in .safetensors and stand in a folder that exists.")
    check_writable(out)
    if checkpoints is not None:
        checkpoints.mkdir(parents=True, exist_ok=True)
    images = load_data(data, split=split, guess=[TRAIN], image_column=image_column, label_column=label_column)
    with open_shards(resolve_device(device)) as (shards, own_device):
        first = shards.rank == 0
        model = load_backbone(backbone or EMBEDDED, own_device)
        encoded = encode_shots(images, model, config, cache=cache, progress=first, shards=shards)
        with progress_bar("Training", "step", shown=first) as bar:

            def show(progress: Progress) -> None:
                bar.total = progress.total
                bar.set_postfix(phase=progress.phase, loss=f"{progress.loss:.3f}", refresh=False)
                bar.update(progress.step - bar.n)

            detector = train_from_images(
                encoded, model, config, callback=show, checkpoint_dir=checkpoints, shards=shards
            )
    if not first:
        return
    detector.metrics["data"] = data.name
    detector.save(out)
    choice = detector.fit.choice
    line = {
        "detector": str(out),
        "seconds": round(time.monotonic() - started, 2),
        "id_accuracy": detector.metrics.get("calibration_accuracy"),
        **detector.metrics,
        "score": detector.score_name,
        "folds": {} if choice is None else choice.to_dict()["folds"],
    }
    if as_json:
        typer.echo(json.dumps(line))
        return
    accuracy = "not measured" if line["id_accuracy"] is None else f"{100 * line['id_accuracy']:.1f} %"
    typer.echo(
        f"{out}: {len(detector.class_names)} classes, {line['train_images']} training and {line['calibration_images']} "
        f"calibration images; accuracy on the latter {accuracy}; {line['seconds']} s"
    )
    typer.echo(describe_choice(detector))


def describe_choice(detector: Detector) -> str:
    """Which score gives the verdicts, why, and how the others did on hidden classes: lines for people."""
    choice = detector.fit.choice
    if choice is None:
        return f"Verdicts by {detector.score_name}."
    rows = [
        f"{name:>16}  AUROC {row['auroc']:.4f}  FPR95 {row['fpr95']:.4f}{'  (chosen)' if name == choice.score else ''}"
        for name, row in choice.folds.items()
    ]
    photos = detector.fit.photos
    kept = "" if photos is None else "every photo" if photos.complete else "the mean photo of each class"
    return "\n".join([choice.reason, *rows, *([f"The file keeps the features of {kept}."] if kept else [])])
