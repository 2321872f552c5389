"""Means of measured rows, their spreads over splits and over seeds, and intervals of their lead over zero-shot MCM."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from benchmarks.harness.measure import DRAWS, LED, MEASURES, Row

AVERAGE = "average"
LEVEL = 0.95


def summarise(rows: Sequence[Row], by: Sequence[str], over: str | None = None) -> list[Row]:
    """One line for each group of rows that agree in `by`, in percent.

    Args:
        over: one of `by` whose values are averaged, too: for each group that agrees in the others, a line where it is
            `AVERAGE`, in which each of its values weighs the same. None for no such lines.

    Returns:
        Lines with `by` and each measure's mean. MEASURE_splits is the standard deviation (n - 1) over splits of means
        over seeds, MEASURE_seeds that over seeds of means over splits; None where there is one. MEASURE_lead is the
        mean difference from zero-shot MCM on the same images, MEASURE_low and MEASURE_high its interval at `LEVEL`.
        `n` counts splits; `sampled` says that not all test images were used.
    """
    lines = [_key(by, key) | _line([members]) for key, members in _groups(rows, by)]
    if over is None:
        return lines
    rest = [name for name in by if name != over]
    for key, members in _groups(rows, rest):
        line = _key(rest, key) | _line([part for _, part in _groups(members, [over])])
        lines.append({over: AVERAGE} | line)
    return lines


def by_seed(rows: Sequence[Row], by: Sequence[str], over: str | None = None) -> list[Row]:
    """`summarise` for each seed alone, with the seed; rows without a seed are left out."""
    seeds = sorted({row["seed"] for row in rows if row["seed"] is not None})
    return [
        {"seed": seed} | line
        for seed in seeds
        for line in summarise([row for row in rows if row["seed"] == seed], by, over)
    ]


def plain(rows: Iterable[Row]) -> list[Row]:
    """The rows as they are written: without their draws."""
    return [{key: value for key, value in row.items() if key != DRAWS} for row in rows]


def _key(names: Sequence[str], values: tuple[Any, ...]) -> Row:
    return dict(zip(names, values, strict=True))


def _groups(rows: Sequence[Row], by: Sequence[str]) -> list[tuple[tuple[Any, ...], list[Row]]]:
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in by), []).append(row)
    return list(groups.items())


def _line(sets: Sequence[Sequence[Row]]) -> Row:
    """Statistics of rows, where each set of them weighs the same and within a set each row does."""
    line: Row = {}
    for measure in MEASURES:
        parts = [[row for row in members if row[measure] is not None] for members in sets]
        if not all(parts):
            line |= {measure: None, f"{measure}_splits": None, f"{measure}_seeds": None}
            continue
        splits = [_mean([part], measure) for _, part in _groups(parts[0], ["split"])]
        seeds = [
            _mean([[row for row in part if row["seed"] == seed] for part in parts], measure)
            for seed in dict.fromkeys(row["seed"] for row in parts[0])
        ]
        line[measure] = round(_mean(parts, measure), 2)
        line[f"{measure}_splits"] = _spread(splits) if len(parts) == 1 else None
        line[f"{measure}_seeds"] = _spread(seeds)
    line |= _leads(sets)
    line["n"] = sum(len({row["split"] for row in members}) for members in sets)
    line["sampled"] = any(row["sampled"] for members in sets for row in members)
    return line


def _leads(sets: Sequence[Sequence[Row]]) -> Row:
    if any(row[DRAWS] is None for members in sets for row in members):
        return {f"{measure}_{part}": None for measure in LED for part in ("lead", "low", "high")}
    draws = 100 * np.mean([np.mean([row[DRAWS] for row in members], axis=0) for members in sets], axis=0)
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0).round(2)
    line: Row = {}
    for i, measure in enumerate(LED):
        line[f"{measure}_lead"] = round(_mean(sets, f"{measure}_lead"), 2)
        line |= {f"{measure}_low": float(low[i]), f"{measure}_high": float(high[i])}
    return line


def _mean(sets: Sequence[Sequence[Row]], measure: str) -> float:
    return 100 * float(np.mean([np.mean([row[measure] for row in members]) for members in sets]))


def _spread(values: Sequence[float]) -> float | None:
    return round(float(np.std(values, ddof=1)), 2) if len(values) > 1 else None
