"""Table 7: DualCoOp, whose positive and negative context are learned at once, beside CoOp + LSN."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from benchmarks.harness import pictures as figures
from benchmarks.harness.cells import both, lead
from benchmarks.harness.measure import Meter, Row
from benchmarks.harness.report import markdown_table
from benchmarks.methods.dualcoop import dual_coop
from benchmarks.methods.registry import MCM
from benchmarks.methods.run import Measure, measure, run_measures
from benchmarks.tables.table import Maker, averaged_by_protocol

DUAL, LSN = "DualCoOp", "CoOp + LSN"
OF_PAPER = {MCM: "MCM", DUAL: "DualCoOp", LSN: "LSN"}


def table7(table: Maker) -> None:
    """MCM, DualCoOp and CoOp + LSN on the large-scale setting or its stand-in, and on the CIFAR10 splits."""
    first = table.bench.seeds[0]

    def measures(seed: int) -> Sequence[Measure]:
        return [partial(measure, name=MCM)] * (seed == first) + [_dual, partial(measure, name=LSN)]

    rows = run_measures(table.bench, table.ablated(), measures)
    summary = averaged_by_protocol(rows)
    table.write("Table 7: DualCoOp", summary, rows)
    figures.methods_by_protocol(summary, "ood", table.picture(), "Table 7")


def _dual(meter: Meter) -> list[Row]:
    return meter.measure(DUAL, dual_coop(meter.setting))


def table7_section(summary: Sequence[Row], paper: dict[str, Any]) -> str:
    """AUROC / FPR95 on the stand-ins and on CIFAR10's splits, with the lead over MCM, and the paper's average."""
    ours = {(row["method"], row["protocol"], row["ood"]): row for row in summary}
    lines = []
    for name, theirs in OF_PAPER.items():
        line = [name]
        for here in (ours[name, "Imagenette", "average"], ours[name, "CIFAR10", "CIFAR10"]):
            line += [both(here), lead(here, "auroc"), lead(here, "fpr95")]
        lines.append([*line, both(paper[theirs]["Average"])])
    leads = ["lead over MCM, AUROC", "FPR95"]
    header = ["AUROC / FPR95", "Imagenette, 4 sets", *leads, "CIFAR10, 5 splits", *leads, "paper, average of 4 sets"]
    return markdown_table(header, lines)
