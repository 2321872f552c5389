"""The shipped detectors on images nobody trained on, beside zero-shot MCM, and on the example photos of the page.

    python -m benchmarks.detectors --data DIR

In-distribution images are the test photos of a detector's classes in the image sets. MCM is on hand-written prompts of
the same classes.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.cells import accuracy, both, lead
from benchmarks.harness.measure import Meter, Row
from benchmarks.harness.options import Bench, add_options, data_folder, open_bench, show_progress
from benchmarks.harness.protocols import Split, far_sets, find_test, photos_to_test_on
from benchmarks.harness.report import markdown_table, write_results, write_table
from benchmarks.harness.summary import plain, summarise
from benchmarks.methods.registry import MCM
from benchmarks.methods.run import measure
from lsn_core import Detector, UserError, load_data
from scripts.shipped_detectors import RECIPES, merge_classes

REPO = Path(__file__).resolve().parents[1]
FOLDER, EXAMPLES = REPO / "checkpoints" / "detectors", REPO / "assets" / "examples"
# What an example shows beside the name of its file, in the words of class lists.
ALSO = {
    "butterfly": ("insect",),
    "cheeseburger": ("burger", "hamburger"),
    "daisy": ("flower",),
    "dog": ("animal",),
    "flamingo": ("bird",),
    "guitar": ("acoustic guitar",),
    "hot air balloon": ("balloon",),
    "sailing boat": ("boat", "ship", "sailboat"),
    "school bus": ("bus",),
    "sports car": ("car", "automobile"),
    "strawberries": ("strawberry",),
}


def main() -> None:
    """Writes benchmarks/results/detectors.json and .csv, and detector_examples.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    options = parser.parse_args()
    show_progress()
    try:
        data, bench, begun = data_folder(options), open_bench(options), time.process_time()
        detectors = {path.stem: Detector.load(path, bench.backbone) for path in sorted(FOLDER.glob("*.safetensors"))}
        rows = [row for name, detector in detectors.items() for row in on_far_sets(bench, data, name, detector)]
    except UserError as error:
        sys.exit(str(error))
    write_table(
        "detectors",
        "The shipped detectors on far sets",
        f"python -m benchmarks.detectors {bench.arguments}",
        sorted(summarise(rows, ("protocol", "ood", "method"), "ood"), key=lambda row: str(row["protocol"])),
        seeds=bench.seeds[:1],
        facts=bench.facts,
        seconds={"all": time.process_time() - begun},
        details=plain(rows),
        folder=options.out,
    )
    answers = [line for name, detector in detectors.items() for line in on_examples(name, detector)]
    write_results(
        "detector_examples", {"title": "The shipped detectors on the example photos", "rows": answers}, options.out
    )


def on_far_sets(bench: Bench, data: Path, name: str, detector: Detector) -> list[Row]:
    """Rows of MCM and of a detector's own score on each far set."""
    classes = RECIPES[name].classes if name in RECIPES else None
    if classes is None:
        known = photos_to_test_on(data, detector.class_names)
    else:  # a class may be made of several of the set's
        known = merge_classes(load_data(find_test(data / Path(RECIPES[name].file).parent)), classes)
    setting = bench.setting(Split(name, name, known, known, far_sets(data)))
    meter = Meter(setting, bench.draws)
    return measure(meter, MCM) + meter.measure(
        f"{name} ({detector.score_name})",
        lambda images: detector.score_features(images.embedding),
        lambda images: detector.classify_features(images.embedding),
        seeded=False,
    )


def on_examples(name: str, detector: Detector) -> list[dict[str, Any]]:
    """What a detector says of each example photo, and whether that is right."""
    with open(EXAMPLES / "ATTRIBUTION.csv", newline="") as file:
        photos = [EXAMPLES / row["file"] for row in csv.DictReader(file)]
    lines = []
    for photo, prediction in zip(photos, detector.predict(photos), strict=True):
        shown = photo.stem.replace("_", " ")
        fitting = {c for c in detector.class_names if c.lower() in (shown, *ALSO.get(shown, ()))}
        right = prediction.predicted_class in fitting if prediction.verdict == "ID" else not fitting
        answer = prediction.predicted_class if prediction.verdict == "ID" else "none of its classes"
        lines.append({"detector": name, "photo": photo.name, "answer": answer, "right": right})
    return lines


def detectors_section(summary: Sequence[Row]) -> str:
    """AUROC / FPR95 on each far set and the lead over MCM."""
    header = ["detector", "unknown", "method", "AUROC / FPR95", "lead over MCM, AUROC", "FPR95", "ID accuracy"]
    lines = [
        [
            *(row[key] for key in ("protocol", "ood", "method")),
            *(both(row), lead(row, "auroc"), lead(row, "fpr95")),
            accuracy(row),
        ]
        for row in summary
    ]
    return markdown_table(header, lines)


def examples_section(answers: Sequence[dict[str, Any]]) -> str:
    """How many of the example photos each detector is right about, and what it says of the others."""
    lines = []
    for name in dict.fromkeys(answer["detector"] for answer in answers):
        own = [answer for answer in answers if answer["detector"] == name]
        wrong = ", ".join(f"{answer['photo']}: {answer['answer']}" for answer in own if not answer["right"])
        lines.append([name, f"{sum(answer['right'] for answer in own)} of {len(own)}", wrong])
    return markdown_table(["detector", "right", "wrong about"], lines)


if __name__ == "__main__":
    main()
