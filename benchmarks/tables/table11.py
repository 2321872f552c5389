"""Table 11's question: what does the number of known classes change?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.harness import pictures as figures
from benchmarks.harness.cells import both, lead
from benchmarks.harness.measure import Row
from benchmarks.harness.protocols import Split, find_test, find_train
from benchmarks.harness.report import markdown_table
from benchmarks.harness.summary import summarise
from benchmarks.methods.registry import DEFAULT, MCM, NAMES_ALONE
from benchmarks.methods.run import run_methods
from benchmarks.tables.table import Maker
from lsn_core.data.labelled import load_data

COUNTS = (10, 20, 50, 100, 200)
SHOWN = (MCM, NAMES_ALONE, "CoOp", "CoOp + LSN", DEFAULT)
OTHER_CLASSES, IMAGENETTE = "other classes", "Imagenette"
CLASS_SEED = 0  # of the order in which classes become known; the seeds of the run draw images and train


def table11(table: Maker) -> None:
    """A few methods for 10 to 200 known classes of TinyImageNet."""
    methods = table.options.methods.split(",") if table.options.methods else SHOWN
    rows = run_methods(table.bench, class_count_splits(table, table.options.classes or COUNTS), methods)
    rows = [{"classes": int(row["split"].split()[0])} | row for row in rows]
    summary = summarise(rows, ("classes", "ood", "method"))
    table.write("Table 11: number of known classes, TinyImageNet", summary, rows)
    figures.methods_by_protocol(
        [row | {"panel": f"{row['classes']}: {row['ood']}"} for row in summary], "panel", table.picture(), "Table 11"
    )


def class_count_splits(table: Maker, counts: Sequence[int]) -> list[Split]:
    """The first n classes of one seeded order are known.

    The next n, as far as there are so many, are unknown. So is Imagenette for every n, whose ten classes are none of
    TinyImageNet's: with all 200 known no class is left, and only a set that stays lets numbers be compared.
    """
    folder = table.data / "tinyimagenet"
    train, test = load_data(find_train(folder)), load_data(find_test(folder))
    imagenette = load_data(find_test(table.data / "imagenette"))
    order = np.random.Generator(np.random.PCG64(CLASS_SEED)).permutation(len(train.class_names))
    names = [train.class_names[i] for i in order]
    splits = []
    for count in counts:
        known, unknown = names[:count], names[count : 2 * count]
        ood = {OTHER_CLASSES: test.select_classes(unknown)} if len(unknown) == count else {}
        ood[IMAGENETTE] = imagenette
        split = Split("TinyImageNet", f"{count} classes", train.select_classes(known), test.select_classes(known), ood)
        splits.append(split)
    return splits


def table11_section(summary: Sequence[Row]) -> str:
    """AUROC / FPR95 for each number of classes, and the lead over MCM in AUROC."""
    ours = {(row["method"], row["ood"], row["classes"]): row for row in summary}
    counts = sorted({row["classes"] for row in summary})
    lines = []
    for ood in dict.fromkeys(row["ood"] for row in summary):
        for method in dict.fromkeys(row["method"] for row in summary):
            cells = [ours.get((method, ood, count)) for count in counts]
            shown = ["-" if row is None else f"{both(row)} {lead(row, 'auroc')}".strip() for row in cells]
            lines.append([ood, method, *shown])
    return markdown_table(["unknown", "AUROC / FPR95, lead in AUROC", *(f"{n} classes" for n in counts)], lines)
