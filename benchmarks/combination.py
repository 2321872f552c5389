"""The best combination of scores, chosen on training images only: some known classes play the unknown.

    python -m benchmarks.combination --data DIR

For each setting, the known classes are dealt into folds. In each fold, methods are fitted to the training images of the
other classes, and tell their held-out images from all images of the hidden classes. A combination is a sum of scores,
each in units of its spread over known images that nothing was fitted to. It grows by one score at a time, as long as
that raises AUROC, averaged over folds and settings; a score may come in more than once, which weighs it. No test image
and no image of a class that the protocol calls unknown is used.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Sequence
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np
from torch import Tensor

from benchmarks.harness.measure import write_table
from benchmarks.harness.options import add_options, data_folder, open_bench, show_progress
from benchmarks.harness.protocols import ZOC, Split, zoc_splits
from benchmarks.harness.report import RESULTS
from benchmarks.harness.setting import Setting, Standard
from benchmarks.methods.registry import COMBINED, METHODS
from lsn_core import UserError
from lsn_core.metrics import auroc

log = logging.getLogger(__name__)

NAME = "combination"
FOLDS = 3
MOST = 6
# CoCoOp's prompts cost too much to be trained for every fold.
CANDIDATES = tuple(name for name, method in METHODS.items() if method.group != COMBINED and not method.per_image)


def main() -> None:
    """Chooses a combination and writes benchmarks/results/combination.json and .csv."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    options = parser.parse_args()
    show_progress()
    try:
        data, bench = data_folder(options), open_bench(options)
    except UserError as error:
        sys.exit(str(error))
    begun = time.process_time()
    folds = []
    for protocol in ZOC:
        setting = bench.setting(zoc_splits(data, protocol)[0])
        folds += [fold_scores(fold) for fold in hide_classes(setting)]
    steps = choose(folds)
    rows = [{"scores": " + ".join(chosen), "hidden_auroc": round(100 * value, 2)} for chosen, value in steps]
    write_table(
        NAME,
        "A combination of scores, chosen on training images with hidden classes",
        f"python -m benchmarks.combination {bench.arguments}",
        rows,
        backbone=bench.backbone,
        seed=options.seed,
        seconds={"all": time.process_time() - begun} | bench.clock,
        more={"chosen": list(steps[-1][0]), "folds": len(folds)},
        folder=options.out,
    )
    for row in rows:
        print(row)


def hide_classes(setting: Setting) -> list[Setting]:
    """Settings in which a third of the known classes is unknown, made of the setting's training images only."""
    names = np.array(setting.class_names)
    order = np.random.Generator(np.random.PCG64(setting.config.seed)).permutation(len(names))
    found = []
    for fold in range(FOLDS):
        hidden = set(names[order[fold::FOLDS]])
        rest = [name for name in setting.class_names if name not in hidden]
        if len(rest) < 2 or not hidden:
            continue
        images = Split(
            setting.split.protocol,
            f"{setting.split.name}, fold {fold + 1}",
            setting.learned.data.select_classes(rest),
            setting.held_out.data.select_classes(rest),
            {"hidden classes": setting.drawn.data.select_classes(sorted(hidden))},
        )
        found.append(Setting(setting.backbone, images, setting.config, setting.folder, clock=setting.clock))
    return found


def fold_scores(fold: Setting) -> dict[str, tuple[Tensor, Tensor]]:
    """Scores of known and of hidden images by each candidate, in units of the spread over held-out images."""
    known = fold.images(fold.split.id_test)
    (hidden,) = (fold.images(data) for data in fold.split.ood.values())
    found = {}
    for name in CANDIDATES:
        scale = Standard(METHODS[name].fit(fold), fold.held_out)
        found[name] = scale(known), scale(hidden)
    log.info("%s: scored", fold.split.name)
    return found


def choose(folds: Sequence[dict[str, tuple[Tensor, Tensor]]], most: int = MOST) -> list[tuple[tuple[str, ...], float]]:
    """Grows a combination greedily.

    Args:
        folds: for each fold, scores of known (N,) and of hidden images (M,) by each candidate.
        most: scores in a combination.

    Returns:
        The combination after each step and its mean AUROC over the folds, which rises from step to step.
    """

    def value(names: tuple[str, ...]) -> float:
        sums = [[reduce(add, (fold[name][side] for name in names)) for side in (0, 1)] for fold in folds]
        return float(np.mean([auroc(known, hidden) for known, hidden in sums]))

    steps: list[tuple[tuple[str, ...], float]] = []
    chosen: tuple[str, ...] = ()
    while len(chosen) < most:
        grown = [((*chosen, name), value((*chosen, name))) for name in folds[0]]
        best = max(grown, key=lambda step: step[1])
        if steps and best[1] <= steps[-1][1]:
            break
        steps.append(best)
        chosen = best[0]
    return steps


def chosen_scores(folder: Path = RESULTS) -> tuple[str, ...]:
    """The scores of the combination that was chosen last. Raises FileNotFoundError where none was."""
    return tuple(json.loads((folder / f"{NAME}.json").read_text())["chosen"])


if __name__ == "__main__":
    main()
