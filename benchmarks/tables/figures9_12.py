"""Figures 9 to 12: how often a class's denial is chosen for images of none of the classes."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.harness import pictures as figures
from benchmarks.harness.images import Images
from benchmarks.harness.measure import Row
from benchmarks.harness.protocols import (
    imagenet_names,
    stand_in_split,
)
from benchmarks.harness.report import markdown_table
from benchmarks.tables.table import Maker
from lsn_core import Detector
from lsn_core.negation import count_not


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


def figures9_12_section(summary: Sequence[Row]) -> str:
    """How often a class's denial is chosen."""
    lines = [
        [row["ood"], row["images"], row["classes"], f"{row['chose_not']:.1f} %", f"{row['classes_mostly_not']:.1f} %"]
        for row in summary
    ]
    header = ["images of", "images", "classes", '"not" chosen', "classes where most choose it"]
    return markdown_table(header, [[str(value) for value in line] for line in lines])
