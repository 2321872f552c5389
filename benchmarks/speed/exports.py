"""Exported detectors beside the library: do they give the same verdicts, and how fast are they?

    python -m benchmarks.speed.exports --data DIR

Each shipped detector is written as ONNX, OpenVINO and torch.export, and scores the same photos: some of Imagenette's
validation set (known to one of the detectors), of textures and of flowers. Speed is of the whole graph, from pixels in
memory to verdicts, the median of rounds that take turns.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness.report import environment, markdown_table, write_results
from lsn_core import Detector, load_backbone, load_data
from lsn_core.backbones.compiled import openvino
from lsn_core.data.images import open_image
from lsn_core.export.runner import pixels
from lsn_core.export.write import FORMATS, export
from lsn_core.shipped import DETECTORS_DIR

SETS = (("imagenette", "val"), ("textures", "test"), ("flowers", "test"))
BATCH = 8
ROUNDS = 5
Run = Callable[[np.ndarray], tuple[np.ndarray, ...]]


def main() -> None:
    """Writes benchmarks/results/exports.json and prints its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the image sets")
    parser.add_argument("--photos", type=int, default=500)
    options = parser.parse_args()
    backbone = load_backbone("embedded", "cpu")
    photos = [photo for name, split in SETS for photo in first(options.data / name / f"{split}.parquet", options)]
    rows = []
    for path in sorted(DETECTORS_DIR.glob("*.safetensors")):
        detector = Detector.load(path, backbone)
        with tempfile.TemporaryDirectory() as folder:
            runs: dict[str, Run] = {"library": of_library(detector)}
            for name in FORMATS:
                runs[name] = OPENERS[name](export(detector, Path(folder) / name, name))
            rows += compare(path.stem, detector, photos, runs)
    write_results("exports", environment(seed=0) | {"photos": len(photos), "batch": BATCH, "rows": rows})
    print(table(rows))


def first(path: Path, options: argparse.Namespace) -> list[np.ndarray]:
    """Pixels of the first photos of a set, as many of each as make the wanted number together."""
    images = load_data(path)
    count = min(len(images), -(-options.photos // len(SETS)))
    # Spread over the file, in which classes follow one another.
    return [pixels(open_image(images.read(i)), 224, 224) for i in np.linspace(0, len(images) - 1, count, dtype=int)]


def compare(name: str, detector: Detector, photos: list[np.ndarray], runs: dict[str, Run]) -> list[dict[str, Any]]:
    """A row for each way to run a detector: differences of scores, verdicts and classes from the library's, speed."""
    batches = [np.stack(photos[i : i + BATCH]) for i in range(0, len(photos), BATCH)]
    outputs = {
        way: [np.concatenate(parts) for parts in zip(*map(run, batches), strict=True)] for way, run in runs.items()
    }
    speeds: dict[str, list[float]] = {way: [] for way in runs}
    for _ in range(ROUNDS):
        for way, run in runs.items():
            begun = time.perf_counter()
            for batch in batches[:8]:
                run(batch)
            speeds[way].append(sum(map(len, batches[:8])) / (time.perf_counter() - begun))
    score, index, known = outputs["library"]
    spread = float(score.std())
    return [
        {
            "detector": name,
            "score": detector.score_name,
            "way": way,
            "photos": len(photos),
            "known": int(found[2].sum()),
            "largest_difference": float(np.abs(found[0] - score).max()),
            "in_spreads": float(np.abs(found[0] - score).max()) / spread,
            "verdicts_that_differ": int((found[2] != known).sum()),
            "classes_that_differ": int((found[1] != index).sum()),
            "images_per_second": round(statistics.median(speeds[way]), 1),
        }
        for way, found in outputs.items()
    ]


def of_library(detector: Detector) -> Run:
    """The library's own way, from the same pixels."""
    from PIL import Image

    def run(batch: np.ndarray) -> tuple[np.ndarray, ...]:
        features = detector.backbone.encode_images([Image.fromarray(one) for one in batch])
        predictions = detector.predict_features(features)
        names = {name: i for i, name in enumerate(detector.class_names)}
        return (
            np.array([one.score for one in predictions]),
            np.array([names[str(one.predicted_class)] for one in predictions]),
            np.array([one.verdict == "ID" for one in predictions]),
        )

    return run


def open_onnx(path: Path) -> Run:
    """A session of ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path))
    return lambda batch: tuple(session.run(None, {"pixels": batch}))


def open_openvino(path: Path) -> Run:
    """A model compiled by OpenVINO, in fp32."""
    model = openvino().Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda batch: tuple(model(batch)[name] for name in ("score", "class_index", "known"))


def open_torch(path: Path) -> Run:
    """A torch.export program."""
    module = torch.export.load(path).module()
    return lambda batch: tuple(out.numpy() for out in module(torch.from_numpy(batch)))


OPENERS: dict[str, Callable[[Path], Run]] = {"onnx": open_onnx, "openvino": open_openvino, "torch": open_torch}


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    header = ["detector", "way", "photos", "largest difference (spreads)", "verdicts that differ", "images/s"]
    return markdown_table(
        header,
        [
            [
                f"{row['detector']} ({row['score']})",
                row["way"],
                str(row["photos"]),
                f"{row['largest_difference']:.1e} ({row['in_spreads']:.0e})",
                str(row["verdicts_that_differ"]),
                f"{row['images_per_second']:.0f}",
            ]
            for row in rows
        ],
    )


if __name__ == "__main__":
    main()
