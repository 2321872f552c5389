"""Trains each preset on a CIFAR-10 split and measures it beside MCM: does LSN do here what the paper says?

    python -m benchmarks.presets --data ../shared/data --presets fast,reference,paper

Known and unknown classes are those of the ZOC repository's split. Each preset runs to the end of its schedule. MCM is
zero-shot; "CoOp alone" is MCM on the learned positive prompts. `cpu_seconds` is the processor time of the training,
which other work on the machine disturbs less than `seconds`; both hold positive and negative prompts.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from benchmarks.harness.report import PAGE, RESULTS, environment, markdown_table, replace_section, write_results
from lsn_core import Detector, get_preset, load_backbone, train
from lsn_core.data.features import extract_features
from lsn_core.data.labelled import LabelledImages, load_data
from lsn_core.data.sampling import few_shot
from lsn_core.metrics import accuracy, ood_metrics


def main() -> None:
    """Measures and writes benchmarks/results/faithful.json and the table in benchmarks/README.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the image sets")
    parser.add_argument("--backbone", default="embedded")
    parser.add_argument("--presets", default="fast,reference,paper")
    parser.add_argument("--split", type=int, default=0, help="which of the five CIFAR-10 splits")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, default=Path("build/features"))
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    backbone = load_backbone(options.backbone)
    known, unknown = split_classes(options)
    training = load_data(options.data / "cifar10" / "train.parquet").select_classes(known)
    test = load_data(options.data / "cifar10" / "test.parquet")
    id_test, ood_test = test.select_classes(known), test.select_classes(unknown)

    def features(images: LabelledImages) -> Any:
        return extract_features(backbone, images, cache=options.cache).features

    id_features, ood_features = features(id_test), features(ood_test)
    setting = {
        "split": options.split,
        "known": known,
        "unknown": unknown,
        "backbone": backbone.name,
        "weights_hash": backbone.weights_hash,
        "n_id": len(id_test),
        "n_ood": len(ood_test),
        **environment(options.seed),
    }
    rows: list[dict[str, Any]] = []

    def measure(method: str, detector: Detector, score: str, seconds: float, cpu_seconds: float) -> None:
        found = ood_metrics(
            detector.score_features(id_features, score).numpy(), detector.score_features(ood_features, score).numpy()
        )
        right = accuracy(detector.classify_features(id_features).numpy(), id_test.labels)
        row = {"method": method, "score": score, **found.as_dict(), "id_accuracy": right}
        rows.append(row | {"seconds": seconds, "cpu_seconds": round(cpu_seconds, 2)})
        print(rows[-1], flush=True)

    measure("zero-shot", Detector.zero_shot(backbone, training.class_names), "mcm", 0.0, 0.0)
    for preset in options.presets.split(","):
        config = get_preset(preset, seed=options.seed)
        images = training.subset(few_shot(training, config.shots, options.seed))
        encoded = features(images)
        begun = time.process_time()
        detector = train(encoded, images.labels, images.class_names, backbone, config)
        times = float(detector.metrics["train_seconds"]), time.process_time() - begun
        measure(f"CoOp alone ({preset})", detector, "mcm", *times)
        measure(f"CoOp + LSN ({preset})", detector, "lsn", *times)
        write_results("faithful", setting | {"rows": with_earlier(setting, rows)})
    table = [
        [
            r["method"],
            r["score"],
            *(f"{100 * r[k]:.2f}" for k in ("auroc", "fpr95", "id_accuracy")),
            f"{r['seconds']:.1f}",
            f"{r['cpu_seconds']:.1f}",
        ]
        for r in with_earlier(setting, rows)
    ]
    shown = markdown_table(["method", "score", "AUROC", "FPR95", "ID accuracy", "training s", "CPU s"], table)
    print(shown)
    replace_section(PAGE, "faithful", shown)


def with_earlier(setting: dict[str, Any], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """These rows and those of an earlier run in the same setting that were not measured again: `paper` takes long."""
    path = RESULTS / "faithful.json"
    found = json.loads(path.read_text()) if path.is_file() else {}
    if any(found.get(key) != value for key, value in setting.items()):
        return rows
    measured = {row["method"] for row in rows}
    every = rows + [row for row in found["rows"] if row["method"] not in measured]
    return sorted(every, key=lambda row: row["method"] != "zero-shot")


def split_classes(options: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Names of the known and unknown classes of the split."""
    split = json.loads((options.data / "zoc_splits.json").read_text())["CIFAR10"]["splits"][options.split]
    return split["id_names"], split["ood_names"]


if __name__ == "__main__":
    main()
