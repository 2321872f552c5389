"""Figure 7: AUROC by the number of labelled images per class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from benchmarks.harness import pictures as figures
from benchmarks.harness.cells import lead, plus_minus
from benchmarks.harness.measure import Meter, Row
from benchmarks.harness.protocols import Split, zoc_splits
from benchmarks.harness.report import markdown_table
from benchmarks.harness.summary import summarise
from benchmarks.harness.units import Latest, Unit
from benchmarks.methods.prompts import by_score, coop
from benchmarks.methods.registry import DEFAULT, MCM
from benchmarks.methods.run import measure
from benchmarks.tables.table import Maker

SHOTS = (1, 4, 16, 64, 128)
KINDS = {"positive prompts": "mcm", "negative prompts": "negatives-only", "both prompts": "lsn", DEFAULT: None}


def figure7(table: Maker) -> None:
    """AUROC of positive and of negative prompts alone, of both, and of what `train --shots` makes of them."""
    bench, latest = table.bench, Latest[Meter]()

    def meter_for(split: Split, shots: int, seed: int) -> Meter:
        setting = bench.setting(split, seed)
        return Meter(replace(setting, config=replace(setting.config, shots=shots)), bench.draws)

    def one(meter: Callable[[], Meter], shots: int, name: str) -> list[Row]:
        if name == MCM:
            found = measure(meter(), MCM)
        else:
            found = meter().measure(name, by_score(coop, KINDS[name])(meter().setting))
        return [{"shots": shots} | row for row in found]

    def units() -> Iterator[Unit]:
        for place, split in enumerate(zoc_splits(table.data, "CIFAR10")):
            for shots in SHOTS:
                for seed in bench.seeds:
                    meter = partial(latest.get, (place, shots, seed), partial(meter_for, split, shots, seed))
                    for name in ((MCM,) if seed == bench.seeds[0] else ()) + tuple(KINDS):
                        yield partial(one, meter, shots, name)

    rows = bench.run(units(), bench.clock)
    summary = summarise(rows, ("shots", "method"))
    table.write("Figure 7: labelled images per class, CIFAR10 splits", summary, rows)
    figures.by_shots(summary, table.picture())


def figure7_section(summary: Sequence[Row]) -> str:
    """AUROC by the number of labelled images per class."""
    kinds = list(dict.fromkeys(row["method"] for row in summary))
    counts = list(dict.fromkeys(row["shots"] for row in summary))
    ours = {(row["method"], row["shots"]): row for row in summary}
    lines = [
        [kind, *(f"{plus_minus(ours[kind, n], 'auroc')} {lead(ours[kind, n], 'auroc')}".strip() for n in counts)]
        for kind in kinds
    ]
    return markdown_table(["AUROC, lead over MCM", *(f"{n} per class" for n in counts)], lines)
