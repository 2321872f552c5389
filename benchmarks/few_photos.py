"""What a person gets from few photos: five classes of 24 photos each, and one class alone, beside zero-shot MCM.

    python -m benchmarks.few_photos --data DIR

Five of Imagenette's classes, drawn anew for every seed as their photos are, against the five others and far sets; then
each of the ten classes alone (MCM, which compares classes, cannot serve there) against the nine others and far sets.
MiniPlaces has scenes of churches and gas stations, which are also classes of Imagenette; they are left in.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.harness.cells import both, lead
from benchmarks.harness.measure import Meter, Row
from benchmarks.harness.options import Bench, add_options, data_folder, open_bench, show_progress
from benchmarks.harness.protocols import Split, far_sets, find_test, find_train
from benchmarks.harness.report import markdown_table, write_table
from benchmarks.harness.summary import AVERAGE, plain, summarise
from benchmarks.methods.registry import DEFAULT, MCM, NAMES_ALONE
from benchmarks.methods.run import measure
from lsn_core import UserError
from lsn_core.data.labelled import load_data

SHOTS = 24
FIVE = (MCM, NAMES_ALONE, f"{DEFAULT} without negatives", DEFAULT)
ONE = (NAMES_ALONE, "max cosine", DEFAULT)


def main() -> None:
    """Writes benchmarks/results/few_photos.json and one_class.json, with their tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.set_defaults(shots=SHOTS)
    options = parser.parse_args()
    show_progress()
    try:
        data, bench = data_folder(options), open_bench(options)
        begun = time.process_time()
        five = [row for seed in bench.seeds for row in run(bench, five_classes(data, seed), (seed,), FIVE)]
        spent = time.process_time() - begun
        one = [row for split in single_classes(data) for row in run(bench, split, bench.seeds, ONE)]
    except UserError as error:
        sys.exit(str(error))
    by_draw = sorted(summarise(five, ("split", "ood", "method"), "ood"), key=lambda row: str(row["split"]))
    over_all = [{"split": "all draws"} | row for row in summarise(five, ("ood", "method"), "ood")]
    # The average of one class over the sets, and of each set over the classes.
    by_class = [row for row in summarise(one, ("split", "ood", "method"), "ood") if row["ood"] == AVERAGE]
    by_set = [{"split": "all classes"} | row for row in summarise(one, ("ood", "method"), "ood")]
    for name, title, rows, details, seconds in (
        ("few_photos", "Five classes, few photos of each", [*by_draw, *over_all], five, spent),
        ("one_class", "One class alone", [*by_class, *by_set], one, time.process_time() - begun - spent),
    ):
        write_table(
            name,
            title,
            f"python -m benchmarks.few_photos {bench.arguments}",
            rows,
            seeds=bench.seeds,
            facts=bench.facts,
            seconds={"all": seconds},
            details=plain(details),
            folder=options.out,
        )


def run(bench: Bench, split: Split, seeds: Sequence[int], names: Sequence[str]) -> list[Row]:
    """Rows of these methods for each seed; in a split that is one draw, also of those that learn from no image."""
    rows = []
    for seed in seeds:
        meter = Meter(bench.setting(split, seed), bench.draws)
        rows += [row for name in names if seed == seeds[0] or name == DEFAULT for row in measure(meter, name)]
    return rows


def five_classes(data: Path, seed: int) -> Split:
    """Five of Imagenette's classes by seed, against the others and the far sets."""
    train, test = load_data(find_train(data / "imagenette")), load_data(find_test(data / "imagenette"))
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(train.class_names)).tolist()
    known, others = sorted(order[:5]), sorted(order[5:])
    ood = {"other classes": test.select_classes(others), **far_sets(data)}
    return Split("five classes", f"draw {seed}", train.select_classes(known), test.select_classes(known), ood)


def single_classes(data: Path) -> list[Split]:
    """Each of Imagenette's classes alone, against the others and the far sets."""
    train, test = load_data(find_train(data / "imagenette")), load_data(find_test(data / "imagenette"))
    splits = []
    for i, name in enumerate(train.class_names):
        others = [other for other in range(len(train.class_names)) if other != i]
        ood = {"other classes": test.select_classes(others), **far_sets(data)}
        splits.append(Split("one class", name, train.select_classes([i]), test.select_classes([i]), ood))
    return splits


def few_photos_section(summary: Sequence[Row]) -> str:
    """AUROC / FPR95 on each set and the lead over MCM, for each draw and over all."""
    lines = [
        [row["split"], row["ood"], row["method"], both(row), lead(row, "auroc"), lead(row, "fpr95")]
        for row in summary
        if row["method"] in (MCM, DEFAULT) or row["split"] == "all draws"
    ]
    return markdown_table(["draw", "unknown", "method", "AUROC / FPR95", "lead over MCM, AUROC", "FPR95"], lines)


def one_class_section(summary: Sequence[Row]) -> str:
    """AUROC / FPR95 of each class over the sets, and on each set over the classes."""
    methods = list(dict.fromkeys(row["method"] for row in summary))
    ours = {(row["split"], row["ood"], row["method"]): row for row in summary}
    places = list(dict.fromkeys((row["split"], row["ood"]) for row in summary))
    lines = [[split, ood, *(both(ours[split, ood, method]) for method in methods)] for split, ood in places]
    return markdown_table(["class", "unknown", *methods], lines)


if __name__ == "__main__":
    main()
