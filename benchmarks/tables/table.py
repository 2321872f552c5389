"""What tables share: settings, a clock, files, and rows that are averaged."""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.measure import Row
from benchmarks.harness.options import Bench, data_folder, open_bench
from benchmarks.harness.protocols import ZOC, Split, imagenet_split, stand_in_split, zoc_splits
from benchmarks.harness.report import write_table
from benchmarks.harness.summary import plain, summarise
from benchmarks.methods.registry import MCM, METHODS
from lsn_core import UserError


class Maker:
    """One table in the making: its settings, its clock and its files."""

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        self.name, self.options = name, options
        self.bench: Bench = open_bench(options)
        self.begun = time.process_time()

    @property
    def methods(self) -> list[str]:
        """Those of --methods, or all but those that run the text tower for each image, which takes hours."""
        if self.options.methods:
            return str(self.options.methods).split(",")
        return [name for name, method in METHODS.items() if not method.per_image]

    @property
    def protocols(self) -> list[str]:
        """Those of --protocols, or all of Table 3. Raises UserError for an unknown one."""
        wanted = self.options.protocols.split(",") if self.options.protocols else list(ZOC)
        if unknown := [name for name in wanted if name not in ZOC]:
            raise UserError(f"There is no protocol {unknown[0]!r}. Known ones: {', '.join(ZOC)}.")
        return wanted

    def small_scale(self) -> Iterator[Split]:
        """The splits of Table 3."""
        for protocol in self.protocols:
            yield from zoc_splits(self.data, protocol)

    def large_scale(self) -> list[Split]:
        """The splits of Tables 1, 2, 4, 5, 7 and 9, or their stand-in."""
        id_root, ood_root = self.options.id_root, self.options.ood_root
        if (id_root is None) != (ood_root is None):
            raise UserError("--id-root and --ood-root belong together: give both, or neither for the small stand-ins.")
        if id_root is None:
            return [stand_in_split(self.data)]
        wanted = (self.options.protocols or "ImageNet-100").split(",")
        return [imagenet_split(id_root, ood_root, name) for name in wanted]

    def ablated(self) -> list[Split]:
        """The splits of Tables 4, 5 and 7: the large-scale ones, and CIFAR10's beside their stand-in."""
        splits = self.large_scale()
        return splits if self.options.id_root is not None else splits + zoc_splits(self.data, "CIFAR10")

    @property
    def data(self) -> Path:
        return data_folder(self.options)

    def write(
        self, title: str, summary: Sequence[Row], details: Iterable[Row], more: dict[str, Any] | None = None
    ) -> None:
        """Writes NAME.csv (the summary), NAME.json (that, and how it was made) and NAME_details.csv."""
        write_table(
            self.name,
            title,
            f"python -m benchmarks.tables {self.name} {self.bench.arguments}{self._narrowed}",
            summary,
            seeds=self.bench.seeds,
            facts=self.bench.facts | (more or {}),
            seconds={"all": time.process_time() - self.begun} | self.bench.clock,
            details=plain(details),
            folder=self.options.out,
        )

    @property
    def _narrowed(self) -> str:
        given = {"methods": self.options.methods, "protocols": self.options.protocols}
        if self.name == "table11" and self.options.classes:
            given["classes"] = ",".join(map(str, self.options.classes))
        return "".join(f' --{name} "{value}"' for name, value in given.items() if value)

    def picture(self) -> Path:
        return self.options.out / f"{self.name}.png"

    def kept(self, **same: Any) -> dict[str, list[Row]]:
        """What an earlier run with the same seeds, `Bench.facts` and these measured of methods that are not run now.

        Returns:
            "rows", "by_seed" and "details" of those methods; empty lists where there are none.
        """
        kept: dict[str, list[Row]] = {"rows": [], "by_seed": [], "details": []}
        path = self.options.out / f"{self.name}.json"
        record = json.loads(path.read_text()) if path.is_file() and self.options.methods else {}
        same |= self.bench.facts | {"seed": list(self.bench.seeds)}
        if record and all(record.get(key) == value for key, value in same.items()):
            with open(self.options.out / f"{self.name}_details.csv", newline="") as file:
                record["details"] = list(csv.DictReader(file))
            measured = {MCM, *self.methods}
            kept = {part: [row for row in record[part] if row["method"] not in measured] for part in kept}
        return kept


def averaged_by_protocol(rows: Sequence[Row]) -> list[Row]:
    """One line for each protocol, OOD set and method, and where a protocol has several OOD sets, one for their mean."""
    summary = []
    for protocol in dict.fromkeys(row["protocol"] for row in rows):
        members = [row for row in rows if row["protocol"] == protocol]
        several = len({row["ood"] for row in members}) > 1
        summary += summarise(members, ("protocol", "ood", "method"), "ood" if several else None)
    return summary
