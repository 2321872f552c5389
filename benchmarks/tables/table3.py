"""Table 3: all methods on the small-scale splits, and the headline of README.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.harness import pictures as figures
from benchmarks.harness.cells import cell, mean, with_paper
from benchmarks.harness.measure import Row, summarise, with_average
from benchmarks.harness.protocols import (
    ZOC,
)
from benchmarks.harness.report import markdown_table
from benchmarks.methods.registry import NOT_RUN
from benchmarks.tables.table import Maker, run_all


def table3(table: Maker) -> None:
    """All methods on the five splits of CIFAR10, CIFAR+10, CIFAR100, TinyImageNet and the one of CIFAR+50."""
    rows = run_all(table, table.small_scale())
    summary = with_average(summarise(rows, ("protocol", "method")), "protocol")
    table.write("Table 3: small-scale splits", summary, rows)
    figures.methods_by_protocol(summary, "protocol", table.picture(), "Table 3")


HEADLINE = ("MCM", "ViM", "NegLabel", "CoOp", "CoOp + LSN", "CoCoOp + LSN", "LSN + NegLabel", "best combination")


def table3_section(summary: Sequence[Row], paper: dict[str, Any]) -> str:
    """AUROC and FPR95 of every method; the paper's in brackets."""
    columns = [*ZOC, "average"]
    ours = {(row["method"], row["protocol"]): row for row in summary}
    methods = list(dict.fromkeys(row["method"] for row in summary))
    parts = []
    for measure, label in (("auroc", "AUROC"), ("fpr95", "FPR95")):
        lines = []
        for method in methods:
            theirs = paper.get(method, {})
            cells = [cell(ours[method, column], measure, theirs.get(column)) for column in columns[:-1]]
            average = f"**{ours[method, 'average'][measure]:.2f}**"
            lines.append([method, *cells, with_paper(average, mean(theirs, measure))])
        for method, why in NOT_RUN.items():
            if method in paper:
                cells = [with_paper("-", paper[method][column][measure]) for column in columns[:-1]]
                lines.append([f"{method}: {why}", *cells, with_paper("-", mean(paper[method], measure))])
        parts.append(markdown_table([label, *columns], lines))
    return "\n\n".join(parts)


def headline_section(summary: Sequence[Row], paper: dict[str, Any]) -> str:
    """The averages over Table 3's five sets of a few methods."""
    average = {row["method"]: row for row in summary if row["protocol"] == "average"}
    lines = []
    for method in HEADLINE:
        theirs = paper.get(method, {})
        lines.append([method, *(with_paper(f"{average[method][m]:.2f}", mean(theirs, m)) for m in ("auroc", "fpr95"))])
    return markdown_table(["method", "AUROC, average of five sets", "FPR95"], lines)
