"""Puts results beside the paper's figures: the Markdown tables of benchmarks/README.md, the headline in
README.md, and the tables of several pages of docs.

python -m benchmarks.page          # writes them anew from benchmarks/results/
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks import gpu_tables
from benchmarks.detectors import detectors_section, examples_section
from benchmarks.few_photos import few_photos_section, one_class_section
from benchmarks.folds import schedules_section
from benchmarks.harness.protocols import FILES
from benchmarks.harness.report import PAGE, RESULTS, replace_section
from benchmarks.many_classes import many_classes_section
from benchmarks.monitoring import changes_section, monitoring_section
from benchmarks.presets import presets_section
from benchmarks.speed import cold_start, cost, installed_size
from benchmarks.speed.scale import scale_section
from benchmarks.speed.throughput import throughput_section
from benchmarks.tables.figure7 import figure7_section
from benchmarks.tables.figures9_12 import figures9_12_section
from benchmarks.tables.table1 import table1_section
from benchmarks.tables.table3 import headline_section, seeds_section, table3_section
from benchmarks.tables.table4_5 import TABLE4, TABLE5, ablation_section
from benchmarks.tables.table7 import table7_section
from benchmarks.tables.table11 import table11_section

README = PAGE.parents[1] / "README.md"
WATCH = PAGE.parents[1] / "docs" / "labelling-and-monitoring.md"
MANY = PAGE.parents[1] / "docs" / "many-photos.md"
MACHINES = PAGE.parents[1] / "docs" / "many-machines.md"
TRAINING = PAGE.parents[1] / "docs" / "training-speed.md"
NOT_YET = "Not measured yet with this version."


def main() -> None:
    """Writes every table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    for page, marker, text in sections():
        replace_section(page, marker, text)


def sections(folder: Path = RESULTS) -> list[tuple[Path, str, str]]:
    """Page, marker and Markdown of every table, from the results in a folder; `NOT_YET` for one that is not there."""
    paper = json.loads((FILES / "paper.json").read_text())

    def rows(name: str, part: str = "rows") -> list[dict[str, Any]]:
        path = folder / f"{name}.json"
        found: list[dict[str, Any]] = json.loads(path.read_text()).get(part, []) if path.is_file() else []
        return found

    def whole(name: str) -> list[dict[str, Any]]:
        path = folder / f"{name}.json"
        return [json.loads(path.read_text())] if path.is_file() else []

    made = [
        (PAGE, "table3", rows("table3"), lambda found: table3_section(found, paper["Table 3"])),
        (PAGE, "table3-seeds", rows("table3", "by_seed"), seeds_section),
        (PAGE, "table1", rows("table1"), lambda found: table1_section(found, paper["Table 11"])),
        (PAGE, "table4", rows("table4"), lambda found: ablation_section(found, paper["Table 4"], TABLE4)),
        (PAGE, "table5", rows("table5"), lambda found: ablation_section(found, paper["Table 5"], TABLE5)),
        (PAGE, "table7", rows("table7"), lambda found: table7_section(found, paper["Table 7"])),
        (PAGE, "table11", rows("table11"), table11_section),
        (PAGE, "figure7", rows("figure7"), figure7_section),
        (PAGE, "figures9-12", rows("figures9-12"), figures9_12_section),
        (PAGE, "few-photos", rows("few_photos"), few_photos_section),
        (PAGE, "one-class", rows("one_class"), one_class_section),
        (PAGE, "detectors", rows("detectors"), detectors_section),
        (PAGE, "detector-examples", rows("detector_examples"), examples_section),
        (PAGE, "presets-coop", rows("presets_coop_fast_reference_paper"), presets_section),
        (PAGE, "presets-cocoop-fast", rows("presets_cocoop_fast"), presets_section),
        (PAGE, "presets-cocoop-paper", rows("presets_cocoop_paper"), presets_section),
        (WATCH, "false-alarms", rows("monitoring"), monitoring_section),
        (WATCH, "changes", rows("monitoring", "changes"), changes_section),
        (MANY, "throughput", rows("throughput"), throughput_section),
        (MACHINES, "scale", rows("scale"), scale_section),
        (MACHINES, "cost", cost.load(folder), cost.cost_section),
        (TRAINING, "updates", rows("folds_updates"), schedules_section),
        (TRAINING, "updates-paper", rows("folds_paper"), schedules_section),
        (TRAINING, "many-classes", rows("many_classes"), many_classes_section),
        (TRAINING, "gpu", whole("gpu"), gpu_tables.tables),
        (PAGE, "cold-start", rows("cold_start"), cold_start.table),
        (installed_size.PAGE, "installed-size", rows("installed_size"), installed_size.table),
        (README, "size", rows("installed_size"), installed_size.sentence),
        (README, "headline", rows("table3"), lambda found: headline_section(found, paper["Table 3"])),
    ]
    return [(page, marker, section(found) if found else NOT_YET) for page, marker, found, section in made]


if __name__ == "__main__":
    main()
