"""Table 10: LSN on BLIP."""

from __future__ import annotations

from benchmarks.harness import pictures as figures
from benchmarks.methods.registry import MCM
from benchmarks.methods.run import run_methods
from benchmarks.tables.table import Maker, averaged_by_protocol
from lsn_core import UserError
from lsn_core.backbones.blip_loading import PREFIX


def table10(table: Maker) -> None:
    """MCM, CoOp and CoOp + LSN with a BLIP as the backbone. Raises UserError for another backbone."""
    if not table.bench.backbone.name.startswith(PREFIX):
        raise UserError("Table 10 is about BLIP: give --backbone blip:ORG/REPO or blip:FOLDER.")
    rows = run_methods(table.bench, table.large_scale(), (MCM, "CoOp", "CoOp + LSN"))
    summary = averaged_by_protocol(rows)
    table.write("Table 10: BLIP", summary, rows)
    figures.methods_by_protocol(summary, "ood", table.picture(), "Table 10")
