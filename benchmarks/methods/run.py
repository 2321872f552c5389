"""Fits and measures methods on settings."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from benchmarks.harness.measure import Meter, Row
from benchmarks.harness.options import Bench
from benchmarks.harness.protocols import Split
from benchmarks.methods.registry import MCM, METHODS
from lsn_core import UserError


def run_methods(bench: Bench, splits: Iterable[Split], names: Sequence[str]) -> list[Row]:
    """Fits and measures methods on every split, for every seed; one row for each method and OOD set.

    Zero-shot MCM comes first, whether named or not. What does not depend on the images drawn is measured once a split.

    Raises:
        UserError: there is no such method.
    """
    if unknown := [name for name in names if name not in METHODS]:
        raise UserError(f"There is no method {unknown[0]!r}. Known ones: {', '.join(METHODS)}.")
    rows = []
    for split in splits:
        begun = time.process_time()
        for seed in bench.seeds:
            meter = Meter(bench.setting(split, seed), bench.draws)
            for name in dict.fromkeys((MCM, *names)):
                if METHODS[name].seeded or seed == bench.seeds[0]:
                    rows += measure(meter, name)
        bench.clock[split.protocol] += time.process_time() - begun
    return rows


def measure(meter: Meter, name: str) -> list[Row]:
    """Fits one method of `METHODS` to the meter's setting and measures it."""
    method, setting = METHODS[name], meter.setting
    predict = method.predict and method.predict(setting)
    most = setting.cocoop_images if method.per_image else None
    return meter.measure(name, method.fit(setting), predict, most=most, seeded=method.seeded)
