"""Puts results beside the paper's figures: the Markdown tables of benchmarks/README.md and the headline in README.md.

python -m benchmarks.page          # writes them anew from benchmarks/results/
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness.measure import Row
from benchmarks.harness.protocols import FILES
from benchmarks.harness.report import PAGE, RESULTS, markdown_table, replace_section
from benchmarks.tables.figure7 import figure7_section
from benchmarks.tables.figures9_12 import figures9_12_section
from benchmarks.tables.table1 import table1_section
from benchmarks.tables.table3 import headline_section, table3_section
from benchmarks.tables.table4_5 import OF_TABLE4, OF_TABLE5, ablation_section

README = PAGE.parents[1] / "README.md"


def main() -> None:
    """Writes every table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    for page, marker, text in sections():
        replace_section(page, marker, text)


def sections(folder: Path = RESULTS) -> list[tuple[Path, str, str]]:
    """Page, marker and Markdown of every table, from the results in a folder."""
    paper = json.loads((FILES / "paper.json").read_text())
    rows = {
        name: json.loads((folder / f"{name}.json").read_text())["rows"]
        for name in ("table1", "table3", "table4", "table5", "figure7", "figures9-12", "combination")
    }
    return [
        (PAGE, "table3", table3_section(rows["table3"], paper["Table 3"])),
        (PAGE, "table1", table1_section(rows["table1"], paper["Table 11"])),
        (PAGE, "table4", ablation_section(rows["table4"], paper["Table 4"], OF_TABLE4)),
        (PAGE, "table5", ablation_section(rows["table5"], paper["Table 5"], OF_TABLE5)),
        (PAGE, "figure7", figure7_section(rows["figure7"])),
        (PAGE, "figures9-12", figures9_12_section(rows["figures9-12"])),
        (PAGE, "combination", combination(rows["combination"])),
        (README, "headline", headline_section(rows["table3"], paper["Table 3"])),
    ]


def combination(summary: Sequence[Row]) -> str:
    """How the combination grew."""
    lines = [[row["scores"], f"{row['hidden_auroc']:.2f}"] for row in summary]
    return markdown_table(["sum of", "AUROC, hidden classes"], lines)


if __name__ == "__main__":
    main()
