"""What tables share: settings, a clock, files, and rows that are averaged."""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Iterable
from pathlib import Path

from benchmarks.combination import NAME as COMBINATION
from benchmarks.combination import chosen_scores
from benchmarks.harness.measure import Row, summarise, with_average, write_table
from benchmarks.harness.options import Bench, data_folder, open_bench
from benchmarks.harness.protocols import (
    ZOC,
    Split,
    imagenet_split,
    stand_in_split,
    zoc_splits,
)
from benchmarks.harness.setting import Setting
from benchmarks.methods.registry import METHODS
from benchmarks.methods.run import BEST, run_methods
from lsn_core import UserError

log = logging.getLogger(__name__)


class Maker:
    """One table in the making: its settings, its clock and its files."""

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        self.name, self.options = name, options
        self.bench: Bench = open_bench(options)
        self.begun = time.process_time()
        self.seconds: dict[str, float] = {}

    @property
    def methods(self) -> list[str] | None:
        return self.options.methods.split(",") if self.options.methods else None

    def small_scale(self) -> Iterable[Setting]:
        """The settings of Table 3."""
        for protocol in ZOC:
            begun = time.process_time()
            for split in zoc_splits(self.data, protocol):
                yield self.bench.setting(split)
            self.seconds[protocol] = time.process_time() - begun

    def large_scale(self) -> list[Split]:
        """The splits of Tables 1, 2, 4, 5, 9 and 11, or their stand-in."""
        id_root, ood_root = self.options.id_root, self.options.ood_root
        if (id_root is None) != (ood_root is None):
            raise UserError("--id-root and --ood-root belong together: give both, or neither for the small stand-ins.")
        if id_root is None:
            return [stand_in_split(self.data)]
        return [imagenet_split(id_root, ood_root, name) for name in self.options.protocol or ("ImageNet-100",)]

    @property
    def data(self) -> Path:
        return data_folder(self.options)

    def write(self, title: str, summary: list[Row], details: list[Row]) -> None:
        self.seconds["all"] = time.process_time() - self.begun
        write_table(
            self.name,
            title,
            f"python -m benchmarks.tables {self.name} {self.bench.arguments}",
            summary,
            backbone=self.bench.backbone,
            seed=self.options.seed,
            seconds=self.seconds | self.bench.clock,
            details=details,
            folder=self.options.out,
        )

    def picture(self) -> Path:
        return self.options.out / f"{self.name}.png"


def run_all(table: Maker, settings: Iterable[Setting]) -> list[Row]:
    """All methods, and the combination that was chosen on training images if there is one."""
    wanted = table.methods
    try:
        best = chosen_scores(table.options.out) if wanted is None or BEST in wanted else ()
    except FileNotFoundError:
        best = ()
        log.warning("No combination was chosen yet (python -m benchmarks.%s): it is left out.", COMBINATION)
    return run_methods(settings, [name for name in wanted or METHODS if name != BEST], best)


def averaged_by_protocol(rows: list[Row]) -> list[Row]:
    """One line for each protocol, OOD set and method, and where a protocol has several OOD sets, one for their mean."""
    summary = []
    for protocol in dict.fromkeys(row["protocol"] for row in rows):
        members = summarise([row for row in rows if row["protocol"] == protocol], ("protocol", "ood", "method"))
        several = len({row["ood"] for row in members}) > 1
        summary += [{"protocol": protocol} | row for row in (with_average(members, "ood") if several else members)]
    return summary
