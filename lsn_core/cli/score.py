"""The command `score`."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from tqdm import tqdm

from lsn_core.cli.options import BackboneOption, DeviceOption, JsonOption, open_detector
from lsn_core.errors import UserError


def score(
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    detector: Annotated[
        Path | None, typer.Option(help="A trained detector file (.safetensors), or hf-hub:ORG/NAME.")
    ] = None,
    classes: Annotated[str | None, typer.Option(help="Class names for a zero-shot detector: dog,cat,elephant.")] = None,
    calibrate: Annotated[
        Path | None, typer.Option(help="Folder of photos of the known classes, to calibrate the detector with.")
    ] = None,
    score: Annotated[
        str | None, typer.Option(help="Score that gives the verdicts, in place of the detector's own.")
    ] = None,
    tpr: Annotated[float, typer.Option(help="Share of known images to keep.")] = 0.95,
    backbone: BackboneOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Give each image a verdict: in distribution (and which class), or out of distribution.

    A file that cannot be read gets its own line with an error, the others go on, and the exit code is 1.
    """
    import torch

    from lsn_core.data.images import find_images, open_image

    scorer = open_detector(detector, classes, backbone, device)
    if score is not None and score != scorer.score_name:
        scorer = scorer.with_score(score)
    if calibrate is not None:
        known = find_images([calibrate])
        bar = tqdm(known, desc="Calibrating", unit="image", disable=len(known) < 20)
        scorer = scorer.calibrate(torch.cat([scorer.backbone.encode_images([open_image(path)]) for path in bar]))
    files = find_images(images)
    if not files:
        raise UserError(f"No images were found in {', '.join(str(path) for path in images)}.")
    failed = 0
    # Chunks keep memory bounded and let lines appear while a long run goes on.
    bar = tqdm(total=len(files), desc="Scoring", unit="image", disable=len(files) < 20)
    for start in range(0, len(files), 64):
        chunk = files[start : start + 64]
        for file, prediction in zip(chunk, scorer.predict(chunk, tpr, on_image=bar.update), strict=True):
            failed += prediction.error is not None
            line = {"file": str(file), **prediction.as_dict()}
            with tqdm.external_write_mode(file=sys.stdout):
                typer.echo(json.dumps(line, ensure_ascii=False, allow_nan=False) if as_json else describe(line))
    bar.close()
    if not as_json and scorer.calibration is None:
        typer.echo("The threshold is uncalibrated: give --calibrate a folder of photos of these classes.", err=True)
    if failed:
        raise typer.Exit(1)


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
