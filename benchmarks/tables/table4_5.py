"""Tables 4 and 5: what positive prompts, negative prompts, their contexts and the regulariser are worth."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from benchmarks.harness import pictures as figures
from benchmarks.harness.cells import both, lead
from benchmarks.harness.measure import Meter, Row
from benchmarks.harness.report import markdown_table
from benchmarks.methods.prompts import ablation
from benchmarks.methods.registry import MCM
from benchmarks.methods.run import Measure, measure, run_measures
from benchmarks.tables.table import Maker, averaged_by_protocol

TABLE4 = {
    "full": "full model",
    "no-positive": "w/o positive prompts",
    "no-negative": "w/o negative prompts",
    "no-regulariser": "w/o semantic orthogonality loss",
    "multi-positive": "multi positive prompts",
}
TABLE5 = {
    "pos-specific-name": "pos-specific-w name",
    "pos-shared-name": "pos-shared-w name",
    "pos-specific-no-name": "pos-specific-w/o name",
    "neg-specific-name": "neg-specific-w name",
    "neg-shared-name": "neg-shared-w name",
    "neg-specific-no-name": "neg-specific-w/o name",
}
"""Rows of the paper, by the name of their ablation."""


def table4(table: Maker) -> None:
    """What positive prompts, negative prompts and the regulariser are worth."""
    ablations(table, "Table 4: positive and negative prompts", TABLE4)


def table5(table: Maker) -> None:
    """Shared or class-specific contexts, with or without class names."""
    ablations(table, "Table 5: contexts of positive and negative prompts", TABLE5)


def ablations(table: Maker, title: str, names: dict[str, str]) -> None:
    """Rows of Table 4 or 5 on the large-scale setting or its stand-in, and on the CIFAR10 splits."""
    first = table.bench.seeds[0]

    def measures(seed: int) -> Sequence[Measure]:
        return [partial(measure, name=MCM)] * (seed == first) + [partial(_measure, name=name) for name in names]

    rows = run_measures(table.bench, table.ablated(), measures)
    summary = averaged_by_protocol(rows)
    table.write(title, summary, rows)
    figures.methods_by_protocol(summary, "ood", table.picture(), title)


def _measure(meter: Meter, name: str) -> list[Row]:
    return meter.measure(name, ablation(name)(meter.setting))


def ablation_section(summary: Sequence[Row], paper: dict[str, Any], names: dict[str, str]) -> str:
    """AUROC / FPR95 on the stand-ins, on CIFAR10's splits, and the paper's average on ImageNet-100."""
    ours = {(row["method"], row["protocol"], row["ood"]): row for row in summary}
    lines = []
    for name, theirs in ({MCM: MCM} | names).items():
        here = ours[name, "CIFAR10", "CIFAR10"]
        cells = [both(ours[name, "Imagenette", "average"]), both(here), lead(here, "auroc"), lead(here, "fpr95")]
        lines.append([theirs, *cells, both(paper[theirs]["Average"]) if theirs in paper else ""])
    leads = ["lead over MCM there, AUROC", "FPR95"]
    header = ["AUROC / FPR95", "Imagenette, 4 sets", "CIFAR10, 5 splits", *leads, "paper, ImageNet-100"]
    return markdown_table(header, lines)
