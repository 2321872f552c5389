"""Cells of the page's tables: a measure, with the paper's figure in brackets."""

from __future__ import annotations

from typing import Any

from benchmarks.harness.measure import Row
from benchmarks.harness.protocols import ZOC


def cell(row: Row, measure: str, theirs: dict[str, float] | None) -> str:
    return with_paper(f"{row[measure]:.2f}", theirs[measure] if theirs else None)


def both(row: Row) -> str:
    return f"{row['auroc']:.2f} / {row['fpr95']:.2f}"


def accuracy(row: Row) -> str:
    return "" if row["id_accuracy"] is None else f"{row['id_accuracy']:.1f}"


def with_paper(ours: str, theirs: float | None) -> str:
    return ours if theirs is None else f"{ours} ({theirs:.2f})"


def mean(theirs: dict[str, Any], measure: str) -> float | None:
    values = [theirs[column][measure] for column in ZOC if column in theirs]
    return sum(values) / len(values) if len(values) == len(ZOC) and None not in values else None
