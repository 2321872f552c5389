"""Trains by each preset, to the end of its schedule, on CIFAR10's splits: does LSN do here what the paper says?

    python -m benchmarks.presets --data DIR --preset fast,reference,paper
    python -m benchmarks.presets --data DIR --method cocoop --preset paper --splits 1 --seeds 0

Known and unknown classes are those of the ZOC repository's splits, all test images are used (but see --cocoop-images),
and zero-shot MCM stands beside. A step's time stands beside its floor: the floating-point operations of the text
tower's linear layers, forward and backward, at the speed that a matrix product of that shape reaches here and now.
Other work on the machine makes steps longer than their floor.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from benchmarks.harness.cells import lead, marked, plus_minus
from benchmarks.harness.measure import Meter, Row
from benchmarks.harness.options import add_options, data_folder, open_bench, show_progress, whole_numbers
from benchmarks.harness.protocols import zoc_splits
from benchmarks.harness.report import markdown_table, write_table
from benchmarks.harness.setting import Setting
from benchmarks.harness.summary import plain, summarise
from benchmarks.methods.prompts import by_prompts, by_score
from benchmarks.methods.registry import MCM
from benchmarks.methods.run import measure
from benchmarks.speed.training_speed import gemm_flops_per_second, step_flops
from lsn_core import Detector, UserError, get_preset
from lsn_core.backbones.backbone import Backbone
from lsn_core.prompts.learned import NameTokens
from lsn_core.training.config import METHODS as KINDS
from lsn_core.training.config import PromptConfig, TrainConfig

COST = ("updates", "train_seconds", "step_seconds", "floor_seconds")
NAMES = {"coop": "CoOp", "cocoop": "CoCoOp"}


def main() -> None:
    """Writes benchmarks/results/presets_METHOD_PRESETS.json, with its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--method", choices=KINDS, default=KINDS[0])
    parser.add_argument("--splits", type=whole_numbers, default=(1,), help="of CIFAR10's five, comma-separated")
    options = parser.parse_args()
    show_progress()
    presets = options.preset.split(",")
    options.preset = presets[0]
    rows: list[Row] = []
    try:
        configs = [get_preset(name, options.method, shots=options.shots, choose_score=False) for name in presets]
        bench, begun = open_bench(options), time.process_time()
        splits = [zoc_splits(data_folder(options), "CIFAR10")[number - 1] for number in options.splits]
        for split in splits:
            for seed in bench.seeds:
                setting = bench.setting(split, seed)
                if seed == bench.seeds[0]:
                    rows += measure(Meter(setting, bench.draws), MCM)
                for config in configs:
                    rows += of_preset(setting, replace(config, seed=seed), bench.draws)
    except UserError as error:
        sys.exit(str(error))
    summary = summarise(rows, ("method",))
    for line in summary:
        spent = [row for row in rows if row["method"] == line["method"] and row.get("updates")]
        for key in COST if spent else ():
            line[key] = round(sum(row[key] for row in spent) / len(spent), 4)
    numbers, given = ",".join(map(str, options.splits)), ",".join(presets)
    arguments = bench.arguments.replace(f"--preset {presets[0]}", f"--preset {given}")
    write_table(
        "_".join(["presets", options.method, *presets]),
        f"{NAMES[options.method]} by each preset, CIFAR10 split {numbers}",
        f"python -m benchmarks.presets --method {options.method} --splits {numbers} {arguments}",
        summary,
        seeds=bench.seeds,
        facts=bench.facts | {"preset": given, "splits": list(options.splits)},
        seconds={"all": time.process_time() - begun} | bench.clock,
        details=plain(rows),
        folder=options.out,
    )
    print(presets_section(summary))


def of_preset(setting: Setting, config: TrainConfig, draws: int) -> list[Row]:
    """Rows of positive prompts alone, and of these and negative ones by two scores, with what the training cost."""
    detector = setting.detector(config)
    name, meter = NAMES[config.method], Meter(setting, draws)
    scores = {name: "mcm", f"{name} + LSN": "lsn", f"{name} + LSN (difference)": "difference"}
    most = setting.cocoop_images if config.method == "cocoop" else None
    cost = training_cost(setting, config, detector)
    return [
        row | cost
        for label, score in scores.items()
        for row in meter.measure(
            f"{label}, {config.preset}",
            by_score(lambda setting: detector, score)(setting),
            by_prompts(lambda setting: detector)(setting),
            most=most,
        )
    ]


def training_cost(setting: Setting, config: TrainConfig, detector: Detector) -> Row:
    """Updates of both kinds of prompts, seconds of the training, and the mean seconds of a step and its floor."""
    updates, floor = 0, 0.0
    for side in (config.positive, config.negative):
        # Sets that are trained in turn take a step each.
        turns = side.sets if config.sets_in_turn and side is config.negative else 1
        steps = turns * (side.updates or side.epochs * side.batches(len(setting.learned)))
        copies = side.batch_size if config.method == "cocoop" else 1
        updates += steps
        floor += steps * floor_seconds(setting.backbone, setting.class_names, side, side.sets // turns * copies)
    seconds = detector.metrics["train_seconds"]
    return {
        "updates": updates,
        "train_seconds": seconds,
        "step_seconds": seconds / updates,
        "floor_seconds": floor / updates,
    }


def floor_seconds(backbone: Backbone, names: Sequence[str], side: PromptConfig, sets: int) -> float:
    """The least time of one update of so many prompt sets, here and now."""
    tokens = NameTokens.of(backbone, names, side.context_length, side.with_name)
    flops = step_flops(backbone, tokens, sets, side.context_length, shared=not side.class_specific)
    return flops / gemm_flops_per_second(backbone.device, torch.float32)


def presets_section(summary: Sequence[Row]) -> str:
    """AUROC, FPR95, their lead over MCM, ID accuracy, and what the training cost."""
    leads = "lead over MCM"
    header = ["method, preset", "AUROC", leads, "FPR95", leads, "ID accuracy", "updates", "s", "ms a step / floor"]
    lines = []
    for row in summary:
        line = [marked(row)]
        for measure_name in ("auroc", "fpr95"):
            line += [plus_minus(row, measure_name), lead(row, measure_name)]
        line.append(f"{row['id_accuracy']:.1f}")
        if "updates" in row:
            line += [f"{row['updates']:.0f}", f"{row['train_seconds']:.0f}"]
            line.append(f"{1000 * row['step_seconds']:.0f} / {1000 * row['floor_seconds']:.0f}")
        lines.append(line + [""] * (len(header) - len(line)))
    return markdown_table(header, lines)


if __name__ == "__main__":
    main()
