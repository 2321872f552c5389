"""Tables 1, 2 and 11: all methods on the large-scale settings or their stand-in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.harness import pictures as figures
from benchmarks.harness.cells import accuracy, both
from benchmarks.harness.measure import Row
from benchmarks.harness.report import markdown_table
from benchmarks.tables.table import Maker, averaged_by_protocol, run_all


def table1(table: Maker) -> None:
    """All methods on the large-scale settings (Tables 1, 2 and 11) or their stand-in."""
    rows = run_all(table, (table.bench.setting(split) for split in table.large_scale()))
    summary = averaged_by_protocol(rows)
    table.write("Tables 1, 2 and 11: large-scale settings", summary, rows)
    figures.methods_by_protocol(summary, "ood", table.picture(), "Tables 1, 2 and 11")


OF_TABLE11 = {"MCM": "ImageNet-10/MCM", "CoCoOp + LSN": "ImageNet-10/LSN"}


def table1_section(summary: Sequence[Row], paper: dict[str, Any]) -> str:
    """AUROC / FPR95 of every method on each OOD set; the paper's average in a column of its own."""
    sets = list(dict.fromkeys(row["ood"] for row in summary))
    ours = {(row["method"], row["ood"]): row for row in summary}
    lines = []
    for method in dict.fromkeys(row["method"] for row in summary):
        theirs = paper.get(OF_TABLE11.get(method, ""), {}).get("Average")
        cells = [both(ours[method, ood]) for ood in sets]
        lines.append([method, *cells, accuracy(ours[method, sets[0]]), both(theirs) if theirs else ""])
    return markdown_table(["AUROC / FPR95", *sets, "ID accuracy", "paper, ImageNet-10"], lines)
