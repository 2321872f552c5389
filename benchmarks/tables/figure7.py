"""Figure 7: AUROC by the number of labelled images per class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.harness import pictures as figures
from benchmarks.harness.cells import lead, plus_minus
from benchmarks.harness.measure import Meter, Row
from benchmarks.harness.protocols import zoc_splits
from benchmarks.harness.report import markdown_table
from benchmarks.harness.summary import summarise
from benchmarks.methods.prompts import by_score, coop
from benchmarks.methods.registry import DEFAULT, MCM
from benchmarks.methods.run import measure
from benchmarks.tables.table import Maker

SHOTS = (1, 4, 16, 64, 128)
KINDS = {"positive prompts": "mcm", "negative prompts": "negatives-only", "both prompts": "lsn", DEFAULT: None}


def figure7(table: Maker) -> None:
    """AUROC of positive and of negative prompts alone, of both, and of what `train --shots` makes of them."""
    rows = []
    for split in zoc_splits(table.data, "CIFAR10"):
        for shots in SHOTS:
            for seed in table.bench.seeds:
                setting = table.bench.setting(split, seed)
                setting = replace(setting, config=replace(setting.config, shots=shots))
                meter = Meter(setting, table.bench.draws)
                found = measure(meter, MCM) if seed == table.bench.seeds[0] else []
                for name, score in KINDS.items():
                    found += meter.measure(name, by_score(coop, score)(setting))
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
        [kind, *(f"{plus_minus(ours[kind, n], 'auroc')} {lead(ours[kind, n], 'auroc')}".strip() for n in counts)]
        for kind in kinds
    ]
    return markdown_table(["AUROC, lead over MCM", *(f"{n} per class" for n in counts)], lines)
