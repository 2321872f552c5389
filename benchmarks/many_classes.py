"""What half the bits, and steps over some of the classes, save on long lists of classes, and what they cost in quality.

    python -m benchmarks.many_classes --data DIR --shots 16

On training images of TinyImageNet alone, so that no test image is opened: its 200 classes are halved, prompts are
learned for 100 of them, and the other 100 are unknown; then the other way round. Photos that were not drawn measure.
Updates and learning rates are those of `fast`. A step over some classes takes fewer photos, too, as each photo's class
has to be among them. Seconds are the processor's, of learning and measuring.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.folds import measured_folds
from benchmarks.harness.options import add_options, data_folder, open_bench, show_progress
from benchmarks.harness.protocols import find_train
from benchmarks.harness.report import markdown_table, write_table
from lsn_core import extract_features, get_preset
from lsn_core.data.labelled import load_data
from lsn_core.training.config import TrainConfig
from lsn_core.training.loop import has_bf16

SCORES = ("mcm", "lsn", "difference")
STEPS = ((None, 256), (64, 64), (32, 32))  # classes and photos of a step


def variants(shots: int, half: bool) -> Iterator[tuple[dict[str, object], TrainConfig]]:
    """What is varied, and the config with it."""
    config = replace(get_preset("fast", shots=shots), choose_score=False, calibration_share=0.0)
    for classes, photos in STEPS:
        for precision in ("fp32", "bf16") if half else ("fp32",):
            if classes is not None and precision == "fp32" and half:
                continue  # what few classes do is seen in one precision
            yield (
                {"classes_per_step": classes or "all", "photos_per_step": photos, "precision": precision},
                replace(
                    config,
                    precision=precision,
                    classes_per_step=classes,
                    positive=replace(config.positive, batch_size=photos),
                    negative=replace(config.negative, batch_size=photos),
                ),
            )


def main() -> None:
    """Writes benchmarks/results/many_classes.json and .csv, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    options = parser.parse_args()
    show_progress()
    bench, begun = open_bench(options), time.process_time()
    images = load_data(find_train(data_folder(options) / "tinyimagenet"))
    features = extract_features(bench.backbone, images, cache=Path(bench.folder) / "features", progress=False).features
    rows = []
    for about, config in variants(options.shots, has_bf16(bench.backbone.device)):
        found: dict[str, list[tuple[float, float]]] = {}
        seconds = []
        for seed in bench.seeds:
            started = time.process_time()
            measured, _ = measured_folds(
                features, images.labels, images.class_names, bench.backbone, replace(config, seed=seed)
            )
            seconds.append(time.process_time() - started)
            for score in SCORES:
                found.setdefault(score, []).append(measured.metrics[score])
            print(about, {score: round(100 * values[-1][0], 2) for score, values in found.items()}, flush=True)
        for score, values in found.items():
            auroc, fpr95 = 100 * np.array(values).T
            row = about | {"score": score, "auroc": round(float(auroc.mean()), 2)}
            row |= {"auroc_spread": round(float(auroc.std(ddof=1)), 2), "fpr95": round(float(fpr95.mean()), 2)}
            rows.append(row | {"seconds": round(float(np.mean(seconds)), 1)})
    command = f"python -m benchmarks.many_classes {bench.arguments}"
    write_table(
        "many_classes",
        "Long lists of classes: half the bits, and some classes a step",
        command,
        rows,
        seeds=bench.seeds,
        facts=bench.facts,
        seconds={"all": time.process_time() - begun},
        folder=options.out,
    )
    print(many_classes_section(rows))


def many_classes_section(rows: list[dict[str, object]]) -> str:
    """A line for each variant: AUROC of each score, and the seconds of learning for both halves."""
    lines: dict[tuple[object, ...], list[str]] = {}
    for row in rows:  # those of a variant stand together, a score each
        variant = (row["classes_per_step"], row["photos_per_step"], row["precision"])
        line = lines.setdefault(variant, [*map(str, variant), str(row["seconds"])])
        line.append(f"{row['auroc']} ± {row['auroc_spread']}" if row["auroc_spread"] else str(row["auroc"]))
    header = ["classes a step", "photos a step", "precision", "seconds", *SCORES]
    return markdown_table(header, list(lines.values()))


if __name__ == "__main__":
    main()
