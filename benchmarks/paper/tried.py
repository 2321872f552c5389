"""Writes down a try of `benchmarks.paper` on a made-up tree, and what the real run would cost by its steps.

    python -m benchmarks.paper.tried RUN          # benchmarks/results/paper_made_up.json and .md

RUN is the folder of a try, such as `benchmarks.paper.trial` makes, whose rates.json has the steps of every cell that is
counted up (`--plan` tries them all).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.measure import Row
from benchmarks.harness.report import RESULTS, environment, markdown_table, replace_section, write_results
from benchmarks.paper.cells import BACKBONES, Cell, choose_cells
from benchmarks.paper.folders import class_list
from benchmarks.paper.plan import Line, Sizes, plan, plan_table
from benchmarks.paper.progress import in_words
from benchmarks.paper.rates import Rates, covers, load_rates, sides, step_key
from benchmarks.paper.record import MEASURED, read_all
from benchmarks.paper.trial import ENDED, STARTED, STARTS
from benchmarks.paper.wanted import Wanted
from lsn_core import UserError
from lsn_core.training.presets import PRESETS

NAME = "paper_made_up"
DOCS = Path(__file__).resolve().parents[2] / "docs" / "reproduce.md"
SEEDS = (0, 1, 2)
TITLE = "# A try of the paper's command on made-up images"
NOTHING = "**Its detection numbers mean nothing and are not shown.**"
EXTRAPOLATED = """## What the real run would take: extrapolated, not measured

Each kind of step was tried on ten classes, in the time of one thread's processor, and counted up to the paper's
classes, schedules and three seeds on the real sets. On a CPU that is out of reach but for few classes and the preset
`fast`; it says what a GPU has to make up for."""
CHECKED = """## How far the counting is right

Seconds of the trainings of the try by the clock, on a machine with other work, and of its processor, which include the
making of what is trained; and what the tried steps count up for them. The peak is of the whole process, with what it
keeps of earlier cells."""


def main() -> None:
    """Writes the JSON file, the page, and the sentence in docs/reproduce.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    options = parser.parse_args()
    try:
        write(options.run)
    except (UserError, OSError) as error:
        sys.exit(str(error))


def write(run: Path, folder: Path = RESULTS, docs: Path | None = DOCS) -> None:
    """Writes what a try gave. Raises UserError where it measured nothing, OSError where it has no rates."""
    records = read_all(run)
    if failed := [Cell(**record["cell"]).name for record in records if record["status"] != MEASURED]:
        raise UserError(f"{run} holds {len(failed)} cells that failed, such as {failed[0]}: measure them first.")
    if not records:
        raise UserError(f"{run} holds no measured cells.")
    rates = load_rates(run / "rates.json")
    wanted = Wanted(run)
    lines = real_run(wanted, rates)
    found = {
        **environment(),
        "made_up": True,
        "cut_short": cut_short(run),
        "rates": {name: vars(rate) for name, rate in rates.items()},
        "steps": steps(records, rates),
        "extrapolated": [_plain(line) for line in lines],
        "cells": [_short(record) for record in records],
    }
    write_results(NAME, found, folder)
    (folder / f"{NAME}.md").write_text(
        page(records, rates, lines, cut_short(run)) + on_gpu(wanted, folder / "gpu.json")
    )
    if docs is not None:
        replace_section(docs, "costs", sentence(rates, lines))


def real_run(wanted: Wanted, rates: Mapping[str, Rates]) -> list[Line]:
    """What the paper's cells cost of those backbones and methods whose steps were all tried."""
    cells = [
        cell
        for cell in choose_cells([], [], [], list(PRESETS), SEEDS)
        if not cell.how.needs and cell.backbone in rates and covers(rates[cell.backbone], cell, wanted)
    ]
    return plan(cells, wanted, rates, Sizes.real())


def on_gpu(wanted: Wanted, file: Path) -> str:
    """The same cost by rates of a GPU, where results/gpu.json has "paper_rates"; else empty."""
    if not file.is_file() or "paper_rates" not in json.loads(file.read_text()):
        return ""
    rates = load_rates(file)
    device = next(iter(rates.values())).machine.get("gpu")
    return f"\n## On a GPU ({device}): extrapolated, not measured\n\n{plan_table(real_run(wanted, rates))}\n"


def steps(records: Sequence[Row], rates: Mapping[str, Rates]) -> list[Row]:
    """For each training of the try: its updates, their seconds, and what `rates` counted up for them."""
    found: dict[tuple[Any, ...], Row] = {}
    for record in records:
        cell = Cell(**record["cell"])
        if cell.how.learns not in ("coop", "cocoop") or cell.backbone not in rates:
            continue
        config = Wanted(Path(), shorten=record["shorten"]).config(cell)
        counted, updates = 0.0, 0
        for kind, side in sides(cell, config):
            turns = side.sets if config.sets_in_turn and kind == "negative" else 1
            number = turns * (side.updates or side.epochs * side.batches(record["training_images"]))
            updates += number
            counted += number * rates[cell.backbone].steps.get(step_key(cell, kind, side, config), float("nan"))
        worked = record["seconds"].get("training_processor")
        # A training that an earlier cell took was only read again.
        if (found.get(cell.training, {}).get("processor") or 0.0) > (worked or 0.0):
            continue
        found[cell.training] = {
            "backbone": cell.backbone,
            "classes": cell.classes,
            "learns": cell.how.learns,
            "change": cell.how.change,
            "preset": cell.preset,
            "updates": updates,
            "seconds": record["seconds"]["training"],
            "processor": worked,
            "counted_up": round(counted, 2),
            "peak_gib": record["peak_gib"],
        }
    return list(found.values())


def cut_short(run: Path) -> int:
    """How often a try was started and did not reach its end."""
    file = run / STARTS
    text = file.read_text() if file.is_file() else ""
    return text.count(STARTED) - text.count(ENDED)


def page(records: Sequence[Row], rates: Mapping[str, Rates], lines: Sequence[Line], killed: int) -> str:
    """What was run and what the real run would cost, in Markdown."""
    machine = next(iter(rates.values())).machine
    of_training = {Cell(**record["cell"]).training: record["seconds"] for record in records}
    tried_on = {record["cell"]["backbone"] for record in records}
    spent = sum(seconds["training"] + seconds["scoring"] for seconds in of_training.values())
    encoding = sum(seconds["encoding"] for seconds in of_training.values())
    backbones = [name for name in BACKBONES if name in tried_on]
    peak = max(record["peak_gib"]["memory"] for record in records)
    tried = [
        [
            row["backbone"],
            row["classes"],
            {"coop": "CoOp", "cocoop": "CoCoOp"}[row["learns"]]
            + ("" if row["change"] == "full" else f", {row['change']}"),
            row["preset"],
            str(row["updates"]),
            f"{row['seconds']:.1f}",
            "" if row["processor"] is None else f"{row['processor']:.1f}",
            f"{row['counted_up']:.1f}",
            f"{row['peak_gib']['memory']:.1f}",
        ]
        for row in steps(records, rates)
    ]
    methods = sorted({record["cell"]["method"] for record in records})
    classes = list(dict.fromkeys(record["cell"]["classes"] for record in records))
    classes.sort(key=lambda name: len(class_list(name)))
    parts = [
        TITLE,
        f"`python -m benchmarks.paper.trial` on 1,000 wnid folders of tiny made-up JPEG files, by schedules of "
        f"{_schedules(records)} of each kind of prompt, at random weights of {', '.join(backbones)}, each at its full "
        f"size: {len(records)} cells of {len(methods)} methods on {', '.join(classes)} ended, none failed, with "
        f"{peak:.1f} GiB at the most. {NOTHING}",
        _again(killed) + f"On {machine.get('threads')} thread of {machine.get('cores')} cores ({machine.get('cpu')}), "
        f"which other work kept busy, encoding took {in_words(encoding)}, training and scoring {in_words(spent)}.",
        _counts(records, classes),
        EXTRAPOLATED,
        plan_table(lines),
        CHECKED,
        markdown_table(
            ["backbone", "classes", "prompts", "preset", "updates", "seconds", "processor", "counted up", "peak GiB"],
            tried,
        ),
    ]
    return "\n\n".join(parts) + "\n"


def sentence(rates: Mapping[str, Rates], lines: Sequence[Line]) -> str:
    """For the documentation."""
    machine = next(iter(rates.values())).machine

    def days(*chosen: Line) -> str:
        return in_words(sum(line.seconds for line in chosen))

    small = [x for x in lines if x.cells[0].classes == "ImageNet-10" and x.cells[0].backbone == "ViT-B/16"]
    fast = [x for x in lines if x.cells[0].classes == "ImageNet-100" and x.cells[0].preset == "fast"]
    coop = [x for x in fast if x.cells[0].how.learns == "coop" and x.cells[0].backbone == "ViT-B/16"]
    return (
        f"Extrapolated from steps tried on one thread of a CPU ({machine.get('cpu')}), not measured: the whole would\n"
        f"take {days(*lines)}, ImageNet-10 alone {days(*small)}, CoOp + LSN by `fast` on ImageNet-100 {days(*coop)},\n"
        f"with three seeds each, the last without the encoding of images. The table is in\n"
        f"`benchmarks/results/paper_made_up.md`."
    )


def _counts(records: Sequence[Row], classes: Sequence[str]) -> str:
    """How many cells ended on each backbone and set of classes, and which presets made them."""
    rows = []
    for backbone in BACKBONES:
        own = [record["cell"] for record in records if record["cell"]["backbone"] == backbone]
        numbers = [sum(cell["classes"] == name for cell in own) for name in classes]
        presets = [preset for preset in PRESETS if any(cell["preset"] == preset for cell in own)]
        if own:
            rows.append([backbone, *(str(number or "") for number in numbers), ", ".join(presets)])
    return markdown_table(["cells on", *classes, "presets"], rows)


def _again(killed: int) -> str:
    if killed < 1:
        return ""
    return f"It was killed {'once' if killed == 1 else f'{killed} times'} on its way, and the same command went on. "


def _schedules(records: Sequence[Row]) -> str:
    counts = sorted({record["shorten"] for record in records if record["shorten"]})
    return " or ".join(f"{count} update{'s' * (count > 1)}" for count in counts)


def _plain(line: Line) -> Row:
    cell = line.cells[0]
    return {
        "backbone": cell.backbone,
        "classes": cell.classes,
        "methods": [member.method for member in line.cells],
        "preset": cell.preset,
        "seed": cell.seed,
        "updates": line.updates,
        **{part: round(getattr(line, part), 1) for part in ("encoding", "training", "scoring")},
        "memory_gib": round(line.memory, 1),
    }


def _short(record: Row) -> Row:
    return {"cell": record["cell"], "seconds": record["seconds"], "peak_gib": record["peak_gib"]}


if __name__ == "__main__":
    main()
