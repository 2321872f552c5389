"""Tables 1 and 2: all methods on the large-scale settings or their stand-in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.harness import pictures as figures
from benchmarks.harness.cells import accuracy, both, lead, marked
from benchmarks.harness.measure import Row
from benchmarks.harness.report import markdown_table
from benchmarks.methods.run import run_methods
from benchmarks.tables.table import Maker, averaged_by_protocol


def table1(table: Maker) -> None:
    """All methods on the large-scale settings (Tables 1 and 2) or their stand-in."""
    rows = run_methods(table.bench, table.large_scale(), table.methods)
    summary = averaged_by_protocol(rows)
    table.write("Tables 1 and 2: large-scale settings", summary, rows)
    figures.methods_by_protocol(summary, "ood", table.picture(), "Tables 1 and 2")


OF_TABLE11 = {"MCM": "ImageNet-10/MCM", "CoCoOp + LSN": "ImageNet-10/LSN"}


def table1_section(summary: Sequence[Row], paper: dict[str, Any]) -> str:
    """AUROC / FPR95 of every method on each OOD set; the paper's average on ImageNet-10 in a column of its own."""
    sets = list(dict.fromkeys(row["ood"] for row in summary))
    ours = {(row["method"], row["ood"]): row for row in summary}
    lines = []
    for method in dict.fromkeys(row["method"] for row in summary):
        theirs = paper.get(OF_TABLE11.get(method, ""), {}).get("Average")
        cells, last = [both(ours[method, ood]) for ood in sets], ours[method, sets[-1]]
        line = [marked(last), *cells, lead(last, "auroc"), lead(last, "fpr95"), accuracy(last)]
        lines.append([*line, both(theirs) if theirs else ""])
    header = ["AUROC / FPR95", *sets, "lead over MCM, AUROC", "FPR95", "ID accuracy", "paper, ImageNet-10"]
    return markdown_table(header, lines)
