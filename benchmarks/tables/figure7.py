"""Figure 7: AUROC by the number of labelled images per class."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.harness import pictures as figures
from benchmarks.harness.measure import Meter, Row, summarise
from benchmarks.harness.protocols import (
    zoc_splits,
)
from benchmarks.harness.report import markdown_table
from benchmarks.methods.prompts import learned, with_shots
from benchmarks.tables.table import Maker

SHOTS = (1, 4, 16, 64, 128)


def figure7(table: Maker) -> None:
    """AUROC of positive and of negative prompts alone, and of both, by the number of labelled images per class."""
    rows = []
    for split in zoc_splits(table.data, "CIFAR10"):
        full = table.bench.setting(split)
        for shots in SHOTS:
            setting = with_shots(full, shots)
            meter = Meter(setting)
            for name, score in (("positive", "mcm"), ("negative", "negatives-only"), ("both", "lsn")):
                found = meter.measure(f"{name} prompts", learned(score)(setting))
                rows += [{"shots": shots} | row for row in found]
    summary = summarise(rows, ("shots", "method"))
    table.write("Figure 7: labelled images per class, CIFAR10 splits", summary, rows)
    figures.by_shots(summary, table.picture())


def figure7_section(summary: Sequence[Row]) -> str:
    """AUROC by the number of labelled images per class."""
    kinds = list(dict.fromkeys(row["method"] for row in summary))
    counts = list(dict.fromkeys(row["shots"] for row in summary))
    ours = {(row["method"], row["shots"]): row for row in summary}
    lines = [
        [kind, *(f"{ours[kind, n]['auroc']:.2f} ± {ours[kind, n]['auroc_std']:.2f}" for n in counts)] for kind in kinds
    ]
    return markdown_table(["AUROC", *(f"{n} per class" for n in counts)], lines)
