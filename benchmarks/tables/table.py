r"""The paper's tables and figures, each by one command.

    python -m benchmarks.tables table3 --data DIR          # any of the names below, or several, or all
    python -m benchmarks.tables table1 --backbone ViT-B-16:openai \
        --id-root IMAGENET --ood-root OOD --protocol ImageNet-100

Without --id-root and --ood-root, the large-scale tables use small stand-ins from --data: Imagenette against flowers,
SUN scenes, MiniPlaces and textures. Each command writes NAME.csv, NAME_details.csv (every single measurement),
NAME.json (seed, versions, backbone hash, seconds) and NAME.png to benchmarks/results/. Image features and trained
detectors are kept in --cache: a table that is made again, or that shares detectors with another, takes them from there.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks.combination import NAME as COMBINATION
from benchmarks.combination import chosen_scores
from benchmarks.harness import pictures as figures
from benchmarks.harness.measure import BEST, Meter, Row, run_methods, summarise, with_average, write_table
from benchmarks.harness.options import Bench, add_options, data_folder, open_bench, show_progress
from benchmarks.harness.protocols import (
    IMAGENET,
    ZOC,
    Split,
    imagenet_names,
    imagenet_split,
    stand_in_split,
    zoc_splits,
)
from benchmarks.harness.setting import Images, Setting
from benchmarks.methods.prompts import ablation, learned, with_shots
from benchmarks.methods.registry import METHODS
from lsn_core import Detector, UserError
from lsn_core.negation import count_not

log = logging.getLogger(__name__)

TABLE4 = ("full", "no-positive", "no-negative", "no-regulariser", "multi-positive")
TABLE5 = (
    "pos-specific-name", "pos-shared-name", "pos-specific-no-name",
    "neg-specific-name", "neg-shared-name", "neg-specific-no-name",
)  # fmt: skip
SHOTS = (1, 4, 16, 64, 128)


def main() -> None:
    """Makes the tables that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=[*TABLES, "all"])
    add_options(parser)
    parser.add_argument("--id-root", type=Path, help="ImageNet-like folder with train and val, each of class folders")
    parser.add_argument("--ood-root", type=Path, help="folder with one folder of images for each OOD set")
    parser.add_argument("--protocol", action="append", help=f"of --id-root: {', '.join(IMAGENET)}; may be given again")
    parser.add_argument("--methods", help="comma-separated; default: all")
    parser.add_argument("--backbones", default="", help="table9: comma-separated; default: --backbone")
    options = parser.parse_args()
    show_progress()
    try:
        for name in TABLES if "all" in options.names else options.names:
            TABLES[name](Maker(name, options))
    except UserError as error:
        sys.exit(str(error))


class Maker:
    """One table in the making: its settings, its clock and its files."""

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        self.name, self.options = name, options
        self.bench: Bench = open_bench(options)
        self.begun = time.process_time()
        self.seconds: dict[str, float] = {}

    @property
    def methods(self) -> list[str] | None:
        return self.options.methods.split(",") if self.options.methods else None

    def small_scale(self) -> Iterable[Setting]:
        """The settings of Table 3."""
        for protocol in ZOC:
            begun = time.process_time()
            for split in zoc_splits(self.data, protocol):
                yield self.bench.setting(split)
            self.seconds[protocol] = time.process_time() - begun

    def large_scale(self) -> list[Split]:
        """The splits of Tables 1, 2, 4, 5, 9 and 11, or their stand-in."""
        id_root, ood_root = self.options.id_root, self.options.ood_root
        if (id_root is None) != (ood_root is None):
            raise UserError("--id-root and --ood-root belong together: give both, or neither for the small stand-ins.")
        if id_root is None:
            return [stand_in_split(self.data)]
        return [imagenet_split(id_root, ood_root, name) for name in self.options.protocol or ("ImageNet-100",)]

    @property
    def data(self) -> Path:
        return data_folder(self.options)

    def write(self, title: str, summary: list[Row], details: list[Row]) -> None:
        self.seconds["all"] = time.process_time() - self.begun
        write_table(
            self.name, title, f"python -m benchmarks.tables {self.name} {self.bench.arguments}", summary,
            backbone=self.bench.backbone, seed=self.options.seed, seconds=self.seconds | self.bench.clock,
            details=details,
            folder=self.options.out,
        )  # fmt: skip

    def picture(self) -> Path:
        return self.options.out / f"{self.name}.png"


# -- tables ------------------------------------------------------------------------------------------------------------


def table3(table: Maker) -> None:
    """All methods on the five splits of CIFAR10, CIFAR+10, CIFAR100, TinyImageNet and the one of CIFAR+50."""
    rows = run_all(table, table.small_scale())
    summary = with_average(summarise(rows, ("protocol", "method")), "protocol")
    table.write("Table 3: small-scale splits", summary, rows)
    figures.methods_by_protocol(summary, "protocol", table.picture(), "Table 3")


def table1(table: Maker) -> None:
    """All methods on the large-scale settings (Tables 1, 2 and 11) or their stand-in."""
    rows = run_all(table, (table.bench.setting(split) for split in table.large_scale()))
    summary = averaged_by_protocol(rows)
    table.write("Tables 1, 2 and 11: large-scale settings", summary, rows)
    figures.methods_by_protocol(summary, "ood", table.picture(), "Tables 1, 2 and 11")


def table4(table: Maker) -> None:
    """What positive prompts, negative prompts and the regulariser are worth."""
    ablations(table, "Table 4: positive and negative prompts", TABLE4)


def table5(table: Maker) -> None:
    """Shared or class-specific contexts, with or without class names."""
    ablations(table, "Table 5: contexts of positive and negative prompts", TABLE5)


def table9(table: Maker) -> None:
    """MCM and CoOp + LSN for several backbones."""
    rows = []
    for name in filter(None, (table.options.backbones or table.options.backbone).split(",")):
        table.options.backbone = name
        table.bench = open_bench(table.options)
        found = run_methods(map(table.bench.setting, table.large_scale()), ("MCM", "CoOp + LSN"))
        rows += [{"backbone": name} | row | {"method": f"{row['method']} / {name}"} for row in found]
    summary = with_average(summarise(rows, ("ood", "method")), "ood")
    table.write("Table 9: architectures", summary, rows)
    figures.methods_by_protocol(summary, "ood", table.picture(), "Table 9")


def figure7(table: Maker) -> None:
    """AUROC of positive and of negative prompts alone, and of both, by the number of labelled images per class."""
    rows = []
    for split in zoc_splits(table.data, "CIFAR10"):
        full = table.bench.setting(split)
        for shots in SHOTS:
            setting = with_shots(full, shots)
            meter = Meter(setting)
            for name, score in (("positive", "mcm"), ("negative", "negatives-only"), ("both", "lsn")):
                found = meter.measure(f"{name} prompts", learned(score)(setting))
                rows += [{"shots": shots} | row for row in found]
    summary = summarise(rows, ("shots", "method"))
    table.write("Figure 7: labelled images per class, CIFAR10 splits", summary, rows)
    figures.by_shots(summary, table.picture())


def figures9to12(table: Maker) -> None:
    """How often "not a photo of a [class]" is chosen over "a photo of a [class]" for images of none of the classes."""
    if table.options.id_root is None:
        names, sets = tuple(imagenet_names().values()), stand_in_split(table.data).ood
    else:
        split = table.large_scale()[0]
        names, sets = split.train.class_names, split.ood
    prompts = Detector.zero_shot(table.bench.backbone, names)
    rows, details = [], []
    for ood, data in sets.items():
        images = Images(table.bench.backbone, data, table.bench.folder / "features")
        counts = count_not(prompts, images.embedding)
        share = [count.chose_not / count.images for count in counts]
        rows.append(
            {
                "ood": ood,
                "classes": len(counts),
                "images": len(images),
                "chose_not": round(100 * sum(share) / len(share), 2),
                "classes_mostly_not": round(100 * sum(value > 0.5 for value in share) / len(share), 2),
            }
        )
        details += [
            {"ood": ood, "class": count.class_name, "chose_not": count.chose_not, "images": count.images}
            for count in counts
        ]
    table.write('Figures 9-12: how often "not a photo of a [class]" is chosen', rows, details)
    figures.not_counts(details, table.picture())


TABLES: dict[str, Callable[[Maker], None]] = {
    "table3": table3,
    "table1": table1,
    "table4": table4,
    "table5": table5,
    "table9": table9,
    "figure7": figure7,
    "figures9-12": figures9to12,
}


# -- what they share ---------------------------------------------------------------------------------------------------


def run_all(table: Maker, settings: Iterable[Setting]) -> list[Row]:
    """All methods, and the combination that was chosen on training images if there is one."""
    wanted = table.methods
    try:
        best = chosen_scores(table.options.out) if wanted is None or BEST in wanted else ()
    except FileNotFoundError:
        best = ()
        log.warning("No combination was chosen yet (python -m benchmarks.%s): it is left out.", COMBINATION)
    return run_methods(settings, [name for name in wanted or METHODS if name != BEST], best)


def averaged_by_protocol(rows: list[Row]) -> list[Row]:
    """One line for each protocol, OOD set and method, and where a protocol has several OOD sets, one for their mean."""
    summary = []
    for protocol in dict.fromkeys(row["protocol"] for row in rows):
        members = summarise([row for row in rows if row["protocol"] == protocol], ("protocol", "ood", "method"))
        several = len({row["ood"] for row in members}) > 1
        summary += [{"protocol": protocol} | row for row in (with_average(members, "ood") if several else members)]
    return summary


def ablations(table: Maker, title: str, names: Iterable[str]) -> None:
    """Rows of Table 4 or 5 on the large-scale setting or its stand-in, and on the CIFAR10 splits."""
    splits = table.large_scale()
    if table.options.id_root is None:
        splits += zoc_splits(table.data, "CIFAR10")
    rows = []
    for split in splits:
        setting = table.bench.setting(split)
        meter = Meter(setting)
        rows += meter.measure("MCM", METHODS["MCM"].fit(setting))
        for name in names:
            rows += meter.measure(name, ablation(name)(setting))
    summary = averaged_by_protocol(rows)
    table.write(title, summary, rows)
    figures.methods_by_protocol(summary, "ood", table.picture(), title)


if __name__ == "__main__":
    main()
