"""What a run will cost before it is begun: time and memory of each training, counted up from tried steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from benchmarks.harness.classifier import FEW as FEW_CLASSES
from benchmarks.harness.protocols import Split
from benchmarks.harness.report import markdown_table
from benchmarks.paper.cells import Cell
from benchmarks.paper.folders import PUBLISHED, class_list
from benchmarks.paper.progress import in_words
from benchmarks.paper.rates import Rates, sides, step_key
from benchmarks.paper.scores import MANY, SOME
from benchmarks.paper.wanted import Wanted

REAL_TRAIN, REAL_VAL = 1300, 50
BASE_GIB = 1.2  # Python, torch and what it keeps: measured
_SLACK = 1.5  # of what is counted: copies in passing and what the allocator keeps; measured with 1,000 classes
_COPIES = 3  # of a chunk's cosines, while a softmax is taken
_STATES = 4  # of contexts: themselves, their gradient and two of Adam


@dataclass(frozen=True)
class Sizes:
    """Numbers of images.

    Attributes:
        train, test: of each class, on average.
        ood: of each OOD set.
    """

    train: float
    test: float
    ood: Mapping[str, int]

    @classmethod
    def real(cls) -> Sizes:
        """Of ImageNet and the four OOD sets, as they are published."""
        return cls(REAL_TRAIN, REAL_VAL, PUBLISHED)

    @classmethod
    def of(cls, split: Split) -> Sizes:
        """Of what lies on disk."""
        classes = len(split.train.class_names)
        ood = {name: len(data) for name, data in split.ood.items()}
        return cls(len(split.train) / classes, len(split.id_test) / classes, ood)


@dataclass(frozen=True)
class Line:
    """What one training and the cells that are measured on it will cost.

    Attributes:
        cells: that share it.
        encoding, training, scoring: seconds.
        updates: steps of the training.
        memory: GiB at the most, those of a GPU included where there is one.
    """

    cells: tuple[Cell, ...]
    encoding: float
    training: float
    scoring: float
    updates: int
    memory: float

    @property
    def seconds(self) -> float:
        return self.encoding + self.training + self.scoring


def plan(cells: Sequence[Cell], wanted: Wanted, rates: Mapping[str, Rates], sizes: Sizes) -> list[Line]:
    """A line for each training, in the order in which they are run; backbones without rates are left out.

    The first training of a backbone, a set of classes and a seed also pays for the encoding of its images.
    """
    lines = []
    encoded: set[tuple[object, ...]] = set()
    fitted: set[tuple[object, ...]] = set()
    for _, members in groupby(cells, key=lambda cell: cell.training):
        group = tuple(members)
        if group[0].backbone in rates:
            lines.append(_line(group, wanted, rates[group[0].backbone], sizes, encoded, fitted))
    return lines


def _line(
    group: tuple[Cell, ...],
    wanted: Wanted,
    rates: Rates,
    sizes: Sizes,
    encoded: set[tuple[object, ...]],
    fitted: set[tuple[object, ...]],
) -> Line:
    cell = group[0]
    config, classes = wanted.config(cell), len(class_list(cell.classes))
    shots = round(classes * min(config.shots or sizes.train, sizes.train))
    tested = {"ID": classes * sizes.test, **sizes.ood}
    # Whether images before the projection are wanted, too, which is another pass over all of them.
    kinds = ["", "penultimate"] if cell.method == "ASH" or any(c.method == "ASH" for c in group) else [""]
    images = 0.0
    for kind in kinds:
        parts: dict[tuple[object, ...], float] = {
            (cell.backbone, name, kind): float(count) for name, count in sizes.ood.items()
        }
        parts[cell.backbone, cell.classes, "ID", kind] = tested["ID"]
        if cell.how.learns:
            parts[cell.backbone, cell.classes, cell.seed, kind] = float(shots)
        images += sum(count for key, count in parts.items() if key not in encoded)
        encoded |= set(parts)
    updates, training = 0, 0.0
    if cell.how.has_preset:
        for kind, side in sides(cell, config):
            turns = side.sets if config.sets_in_turn and kind == "negative" else 1
            steps = turns * (side.updates or side.epochs * side.batches(shots))
            if cell.how.learns == "dualcoop":
                steps = wanted.shorten or side.epochs * side.batches(shots)
            updates += steps
            training += steps * rates.steps[step_key(cell, kind, side, config)]
    if cell.how.learns == "features" and (cell.classes, cell.seed) not in fitted:
        fitted.add((cell.classes, cell.seed))
        chosen_on = min(classes, FEW_CLASSES)
        # Threefold cross-validation of five strengths, on two thirds of the images each.
        training = rates.fit * (shots * classes + 10 * shots * chosen_on / classes * chosen_on)
    if cell.how.learns == "cocoop":
        most = wanted.cocoop_images
        counts = [min(count, most) if most is not None else count for count in tested.values()]
        scoring = sum(counts) * rates.conditional[cell.classes]
    else:
        scoring = sum(tested.values()) * rates.score[cell.classes]
    memory = _memory(cell, wanted, rates, classes, shots, sum(tested.values()))
    return Line(group, images * rates.image, training, scoring, updates, memory)


def _memory(cell: Cell, wanted: Wanted, rates: Rates, classes: int, shots: int, tested: float) -> float:
    config = wanted.config(cell)
    floats = rates.parameters + (shots + tested) * rates.dim
    floats += _COPIES * MANY * classes * (1 + config.negative.sets)
    if cell.how.learns in ("coop", "cocoop"):
        width = rates.dim
        for _, side in sides(cell, config):
            floats += _STATES * side.sets * (classes if side.class_specific else 1) * side.context_length * width
    if cell.how.learns == "features":
        floats += 3 * 2 * shots * classes  # logits in float64, their gradient and a copy
        floats += SOME * classes * rates.dim  # GradNorm's gradients
    steps = [
        rates.activations[step_key(cell, kind, side, config)]
        for kind, side in (sides(cell, config) if cell.how.has_preset else ())
    ]
    return BASE_GIB + _SLACK * (4 * floats / 2**30 + max(steps, default=0.0))


def plan_table(lines: Sequence[Line]) -> str:
    """A line for each backbone, set of classes, method and preset, all seeds together, and one for the whole."""
    rows = []
    for key, members in groupby(lines, key=_kind):
        some = list(members)
        backbone, classes, method, preset = key
        rows.append(
            [
                backbone,
                classes,
                method,
                preset,
                str(sum(len(line.cells) for line in some)),
                f"{some[0].updates:,}" if some[0].updates else "",
                *(in_words(sum(getattr(line, part) for line in some)) for part in ("encoding", "training", "scoring")),
                f"{max(line.memory for line in some):.1f} GiB",
            ]
        )
    total = [
        f"**{in_words(sum(getattr(line, part) for line in lines))}**" for part in ("encoding", "training", "scoring")
    ]
    cells = sum(len(line.cells) for line in lines)
    rows.append(
        ["**all**", "", "", "", f"**{cells}**", "", *total, f"**{max((x.memory for x in lines), default=0):.1f} GiB**"]
    )
    header = [
        "backbone",
        "classes",
        "prompts or fit",
        "preset",
        "cells",
        "updates",
        "encoding",
        "training",
        "scoring",
        "memory",
    ]
    return markdown_table(header, rows)


def _kind(line: Line) -> tuple[str, str, str, str]:
    cell = line.cells[0]
    of = {"": "MCM", "features": "image classifier", "coop": "CoOp", "cocoop": "CoCoOp", "dualcoop": "DualCoOp"}
    change = "" if cell.how.change == "full" else f", {cell.how.change}"
    return cell.backbone, cell.classes, f"{of[cell.how.learns]}{change}", cell.preset or ""
