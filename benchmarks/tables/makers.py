"""All tables by name, and how each is made."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from benchmarks.harness.units import Run
from benchmarks.tables.figure7 import figure7
from benchmarks.tables.figures9_12 import figures9to12
from benchmarks.tables.table import Maker
from benchmarks.tables.table1 import table1
from benchmarks.tables.table3 import table3
from benchmarks.tables.table4_5 import table4, table5
from benchmarks.tables.table7 import table7
from benchmarks.tables.table9 import table9
from benchmarks.tables.table10 import table10
from benchmarks.tables.table11 import table11

TABLES: dict[str, Callable[[Maker], None]] = {
    "table3": table3,
    "table1": table1,
    "table4": table4,
    "table5": table5,
    "table7": table7,
    "table9": table9,
    "table10": table10,
    "table11": table11,
    "figure7": figure7,
    "figures9-12": figures9to12,
}


def make_table(name: str, options: argparse.Namespace, run: Run) -> None:
    """Makes a table whose measurements are done by the function given, in whatever process that is."""
    options.run = run
    TABLES[name](Maker(name, options))
