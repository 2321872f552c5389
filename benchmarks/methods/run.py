"""Fits and measures methods on settings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.harness.measure import Meter, Row
from benchmarks.harness.setting import Setting
from benchmarks.methods.registry import METHODS, combine

BEST = "best combination"


def run_methods(settings: Iterable[Setting], names: Iterable[str], best: Sequence[str] = ()) -> list[Row]:
    """Fits and measures methods on every setting; one row for each method and OOD set.

    Args:
        best: the scores whose sum is measured after them, as BEST; none for no such row.
    """
    rows = []
    for setting in settings:
        meter = Meter(setting)
        for name in names:
            method = METHODS[name]
            most = setting.cocoop_images if method.per_image else None
            rows += meter.measure(name, method.fit(setting), method.predict and method.predict(setting), most)
        if best:
            rows += meter.measure(BEST, combine(best, setting))
    return rows
