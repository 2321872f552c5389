"""Table 3: all methods on the small-scale splits, and the headline of README.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.harness import pictures as figures
from benchmarks.harness.cells import cell, lead, marked, mean, plus_minus, with_paper
from benchmarks.harness.measure import Row
from benchmarks.harness.protocols import ZOC
from benchmarks.harness.report import markdown_table
from benchmarks.harness.summary import AVERAGE, by_seed, summarise
from benchmarks.methods.registry import DEFAULT, MCM, METHODS, NAMES_ALONE, NOT_RUN
from benchmarks.methods.run import run_methods
from benchmarks.tables.table import Maker

BY = ("protocol", "method")


def table3(table: Maker) -> None:
    """All methods on the five splits of CIFAR10, CIFAR+10, CIFAR100, TinyImageNet and the one of CIFAR+50."""
    rows = run_methods(table.bench, table.small_scale(), table.methods)
    kept = table.kept(protocols=table.protocols)
    summary = in_order(summarise(rows, BY, "protocol") + kept["rows"])
    more = {"protocols": table.protocols, "by_seed": by_seed(rows, BY, "protocol") + kept["by_seed"]}
    table.write("Table 3: small-scale splits", summary, [*rows, *kept["details"]], more)
    figures.methods_by_protocol(summary, "protocol", table.picture(), "Table 3")


def in_order(summary: Sequence[Row]) -> list[Row]:
    """Protocol by protocol, the average last, methods as in the registry."""
    protocols, methods = [*ZOC, AVERAGE], list(METHODS)
    return sorted(summary, key=lambda row: (protocols.index(row["protocol"]), methods.index(row["method"])))


HEADLINE = (MCM, NAMES_ALONE, "ViM", "CoOp", "CoOp + LSN", "CoCoOp + LSN", f"{DEFAULT} without negatives", DEFAULT)


def table3_section(summary: Sequence[Row], paper: dict[str, Any]) -> str:
    """AUROC and FPR95 of every method; the paper's in brackets."""
    columns = [*ZOC, AVERAGE]
    ours = {(row["method"], row["protocol"]): row for row in summary}
    methods = list(dict.fromkeys(row["method"] for row in summary))
    parts = []
    for measure, label in (("auroc", "AUROC"), ("fpr95", "FPR95")):
        lines = []
        for method in methods:
            theirs = paper.get(method, {})
            cells = [cell(ours.get((method, column)), measure, theirs.get(column)) for column in columns[:-1]]
            line = ours[method, AVERAGE]
            average = f"**{plus_minus(line, measure)}**"
            lines.append([marked(line), *cells, with_paper(average, mean(theirs, measure)), lead(line, measure)])
        for method, why in NOT_RUN.items():
            if method in paper:
                cells = [with_paper("-", paper[method][column][measure]) for column in columns[:-1]]
                lines.append([f"{method}: {why}", *cells, with_paper("-", mean(paper[method], measure)), ""])
        parts.append(markdown_table([label, *columns, "lead over MCM"], lines))
    return "\n\n".join(parts)


def seeds_section(lines: Sequence[Row]) -> str:
    """AUROC and FPR95 of the headline's methods at each seed, averages over the sets, with their lead over MCM."""
    average = {(row["method"], row["seed"]): row for row in lines if row["protocol"] == AVERAGE}
    seeds = sorted({row["seed"] for row in lines})
    table = [
        [
            method,
            label,
            *(f"{average[method, seed][measure]:.2f}, {lead(average[method, seed], measure)}" for seed in seeds),
        ]
        for method in HEADLINE
        for measure, label in (("auroc", "AUROC"), ("fpr95", "FPR95"))
        if all((method, seed) in average for seed in seeds)
    ]
    return markdown_table(["method", "", *(f"seed {seed}" for seed in seeds)], table)


def headline_section(summary: Sequence[Row], paper: dict[str, Any]) -> str:
    """The averages over Table 3's five sets of a few methods."""
    average = {row["method"]: row for row in summary if row["protocol"] == AVERAGE}
    lines = []
    for method in (name for name in HEADLINE if name in average):
        row, theirs = average[method], paper.get(method, {})
        line = [marked(row)]
        for measure in ("auroc", "fpr95"):
            line += [with_paper(plus_minus(row, measure), mean(theirs, measure)), lead(row, measure)]
        lines.append(line)
    return markdown_table(["method", "AUROC, average of five sets", "lead over MCM", "FPR95", "lead over MCM"], lines)
