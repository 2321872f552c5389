"""Fits and measures methods on settings."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from benchmarks.harness.measure import Meter, Row
from benchmarks.harness.options import Bench
from benchmarks.harness.protocols import Split
from benchmarks.harness.units import Latest, Unit
from benchmarks.methods.registry import MCM, METHODS
from lsn_core import UserError

Measure = Callable[[Meter], list[Row]]
"""Measures one method on the images of a setting."""


def run_methods(bench: Bench, splits: Iterable[Split], names: Sequence[str]) -> list[Row]:
    """Fits and measures methods on every split, for every seed; one row for each method and OOD set.

    Zero-shot MCM comes first, whether named or not. What does not depend on the images drawn is measured once a split.

    Raises:
        UserError: there is no such method.
    """
    if unknown := [name for name in names if name not in METHODS]:
        raise UserError(f"There is no method {unknown[0]!r}. Known ones: {', '.join(METHODS)}.")

    def measures(seed: int) -> Iterator[Measure]:
        for name in dict.fromkeys((MCM, *names)):
            if METHODS[name].seeded or seed == bench.seeds[0]:
                yield partial(measure, name=name)

    return run_measures(bench, splits, measures)


def run_measures(bench: Bench, splits: Iterable[Split], measures: Callable[[int], Iterable[Measure]]) -> list[Row]:
    """Rows of every split, for every seed, of all that is to be measured for this seed."""

    def units() -> Iterator[Unit]:
        latest = Latest[Meter]()
        for place, split in enumerate(splits):
            for seed in bench.seeds:
                meter = partial(latest.get, (place, seed), partial(_meter, bench, split, seed))
                for one in measures(seed):
                    yield partial(_timed, bench, split.protocol, meter, one)

    return bench.run(units(), bench.clock)


def _meter(bench: Bench, split: Split, seed: int) -> Meter:
    return Meter(bench.setting(split, seed), bench.draws)


def _timed(bench: Bench, protocol: str, meter: Callable[[], Meter], one: Measure) -> list[Row]:
    begun = time.process_time()
    rows = one(meter())
    bench.clock[protocol] += time.process_time() - begun
    return rows


def measure(meter: Meter, name: str) -> list[Row]:
    """Fits one method of `METHODS` to the meter's setting and measures it."""
    method, setting = METHODS[name], meter.setting
    predict = method.predict and method.predict(setting)
    most = setting.cocoop_images if method.per_image else None
    return meter.measure(name, method.fit(setting), predict, most=most, seeded=method.seeded)
