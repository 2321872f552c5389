"""Table 9: architectures."""

from __future__ import annotations

from benchmarks.harness import pictures as figures
from benchmarks.harness.options import open_bench
from benchmarks.harness.summary import summarise
from benchmarks.methods.registry import MCM
from benchmarks.methods.run import run_methods
from benchmarks.tables.table import Maker


def table9(table: Maker) -> None:
    """MCM and CoOp + LSN for several backbones."""
    rows = []
    for name in filter(None, (table.options.backbones or table.options.backbone).split(",")):
        table.options.backbone = name
        table.bench = open_bench(table.options)
        found = run_methods(table.bench, table.large_scale(), (MCM, "CoOp + LSN"))
        rows += [{"backbone": name} | row | {"method": f"{row['method']} / {name}"} for row in found]
    summary = summarise(rows, ("ood", "method"), "ood")
    table.write("Table 9: architectures", summary, rows)
    figures.methods_by_protocol(summary, "ood", table.picture(), "Table 9")
