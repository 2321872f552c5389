"""Cells of the page's tables: a measure, its spread over seeds, its lead over MCM, the paper's figure in brackets."""

from __future__ import annotations

from typing import Any

from benchmarks.harness.measure import Row
from benchmarks.harness.protocols import ZOC

NOT_ALL = "*"
"""Stands behind a method that was not measured on all test images."""


def cell(row: Row | None, measure: str, theirs: dict[str, float] | None) -> str:
    return with_paper("-" if row is None else f"{row[measure]:.2f}", theirs[measure] if theirs else None)


def plus_minus(row: Row, measure: str) -> str:
    """Mean and, where there are several seeds, the standard deviation over them."""
    spread = row.get(f"{measure}_seeds")
    return f"{row[measure]:.2f}" + ("" if spread is None else f" ± {spread:.2f}")


def lead(row: Row, measure: str) -> str:
    """The difference from zero-shot MCM with its interval; empty for MCM itself and where it was not measured."""
    ends = row.get(f"{measure}_low"), row.get(f"{measure}_high")
    if None in ends or ends == (0, 0):
        return ""
    return f"{row[f'{measure}_lead']:+.2f} [{ends[0]:+.2f}, {ends[1]:+.2f}]"


def marked(row: Row) -> str:
    """The method's name, marked where not all test images were used."""
    return f"{row['method']} {NOT_ALL}" if row.get("sampled") else str(row["method"])


def both(row: Row) -> str:
    return f"{row['auroc']:.2f} / {row['fpr95']:.2f}"


def accuracy(row: Row) -> str:
    return "" if row["id_accuracy"] is None else f"{row['id_accuracy']:.1f}"


def with_paper(ours: str, theirs: float | None) -> str:
    return ours if theirs is None else f"{ours} ({theirs:.2f})"


def mean(theirs: dict[str, Any], measure: str) -> float | None:
    values = [theirs[column][measure] for column in ZOC if column in theirs]
    return sum(values) / len(values) if len(values) == len(ZOC) and None not in values else None
