"""How many photos a second, and where the time goes: JPEG files to verdicts on a CPU, compiled and not, in one run.

    python -m benchmarks.speed.throughput --data DIR [--photos 1000] [--many 100000]

Photos are those of Imagenette's validation set, each made a file of its own by a comment in its header. The ways take
turns; a figure is the median of the rounds. Memory is the largest that a process of its own ever had.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.harness.report import RESULTS, environment, markdown_table, write_results
from benchmarks.speed.training_speed import gemm_flops_per_second
from lsn_core import Backbone, Detector, load_backbone
from lsn_core.data.collection import ImageList
from lsn_core.data.images import open_image
from lsn_core.data.photos import load_photos
from lsn_core.shipped import DETECTORS_DIR

DETECTOR = DETECTORS_DIR / "imagenette.safetensors"
BATCH = 32
CLASSES, SETS = 1000, 3


def main() -> None:
    """Writes benchmarks/results/throughput.json and prints its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the image sets")
    parser.add_argument("--photos", type=int, default=1000)
    parser.add_argument("--many", type=int, default=0, help="photos of the largest run whose memory is measured")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory-only", action="store_true", help="measure memory anew beside rates of an earlier run")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_only:
        results = json.loads((RESULTS / "throughput.json").read_text())
        results["rows"][0]["memory"] = memories(options)
        write_results("throughput", results)
        print(throughput_section(results["rows"]))
        return
    if options.memory_of:
        print(json.dumps(largest_memory(options.data, options.photos, options.memory_of)))
        return
    photos = many(options.data, options.photos)
    blobs = [photos.read(i) for i in range(len(photos))]
    eager = Detector.load(DETECTOR, load_backbone("embedded", "cpu"))
    compiled = Detector.load(DETECTOR, load_backbone("embedded", "cpu"))
    begun = time.perf_counter()
    if not compiled.backbone.runtime.compile():
        sys.exit("OpenVINO is not installed, or LSN_RUNTIME=eager.")
    opening = time.perf_counter() - begun
    eager.backbone.expect = lambda images: None  # type: ignore[method-assign]
    pictures = [open_image(blob) for blob in blobs[:200]]
    crops = torch.stack([eager.backbone.crop(picture) for picture in pictures])
    features = F.normalize(torch.randn(len(blobs), eager.backbone.dim), dim=-1)
    ways: dict[str, tuple[int, Callable[[], object]]] = {
        "JPEG files to verdicts, one after the other, PyTorch": (200, lambda: one_by_one(eager, blobs[:200])),
        "JPEG files to verdicts, PyTorch": (200, lambda: list(eager.stream(blobs[:200]))),
        "JPEG files to verdicts, compiled": (len(blobs), lambda: list(compiled.stream(blobs))),
        "image tower from memory, PyTorch": (200, lambda: encode(eager.backbone, crops)),
        "image tower from memory, compiled": (800, lambda: encode(compiled.backbone, crops.repeat(4, 1, 1, 1))),
        "decoding, one thread": (200, lambda: [open_image(blob) for blob in blobs[:200]]),
        "resizing and cropping, one thread": (200, lambda: [eager.backbone.crop(one) for one in pictures]),
        "verdicts from features": (len(blobs), lambda: verdicts(eager, features)),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way[1]()
    for _ in range(options.rounds):
        for name, (count, run) in ways.items():
            begun = time.perf_counter()
            run()
            rates[name].append(count / (time.perf_counter() - begun))
    medians = {name: round(statistics.median(found), 1) for name, found in rates.items()}
    with TemporaryDirectory() as folder:
        command_seconds = command(Path(folder), blobs)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        eager.backbone.encode_crops(crops[:1])
    flops = counter.get_total_flops()
    floor = gemm_flops_per_second(torch.device("cpu"), torch.float32) / flops
    agreement = compare(eager, compiled, blobs[:500])
    results = {
        "photos": len(blobs),
        "images_per_second": medians,
        "all_rounds": {name: [round(rate, 1) for rate in found] for name, found in rates.items()},
        "seconds_to_open_or_convert": round(opening, 2),
        "command_seconds": command_seconds,
        "flops_per_image": flops,
        "floor_images_per_second": round(floor, 1),
        "agreement": agreement,
        "memory": memories(options) if options.many else [],
    }
    write_results("throughput", environment(seed=0) | {"rows": [results]})
    print(throughput_section([results]))


def memories(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Most memory of runs of several lengths, each in a process of its own."""
    runs = [("10 classes", count) for count in (1000, 10_000, options.many)]
    runs += [(f"{CLASSES} classes", count) for count in (1000, max(2000, options.many // 20))]
    return [{"detector": kind, "photos": count, **in_own_process(options.data, count, kind)} for kind, count in runs]


def many(data: Path, count: int) -> ImageList:
    """So many different JPEG files, made as they are read: Imagenette's, with a number in a comment of the header."""
    photos = load_photos(data / "imagenette" / "val.parquet")
    blobs = [photos.read(i) for i in range(len(photos))]

    def read(index: int) -> bytes:
        comment = str(index).encode()
        segment = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment
        blob = blobs[index % len(blobs)]
        return blob[:2] + segment + blob[2:]

    return ImageList(tuple(f"{index}.jpg" for index in range(count)), read)


def one_by_one(detector: Detector, blobs: list[bytes]) -> None:
    """The plain loop: decode a batch, encode it, give its verdicts."""
    for start in range(0, len(blobs), BATCH):
        pixels = torch.stack([detector.backbone.preprocess(open_image(blob)) for blob in blobs[start : start + BATCH]])
        detector.predict_features(detector.backbone.encode_pixels(pixels))


def encode(backbone: Backbone, crops: torch.Tensor) -> None:
    """Features of crops, batch by batch."""
    for part in crops.split(BATCH):
        backbone.encode_crops(part)


def verdicts(detector: Detector, features: torch.Tensor) -> None:
    """Verdicts, batch by batch."""
    for part in features.split(BATCH):
        detector.predict_features(part)


def command(folder: Path, blobs: list[bytes]) -> dict[str, float]:
    """Seconds of whole `score` commands over a folder, once the tower was converted, and with PyTorch alone."""
    (folder / "photos").mkdir()
    for index, blob in enumerate(blobs):
        (folder / "photos" / f"{index}.jpg").write_bytes(blob)
    seconds = {}
    for runtime in ("eager", "auto"):
        line = ["score", str(folder / "photos"), "--detector", str(DETECTOR), "--out", str(folder / f"{runtime}.csv")]
        begun = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "lsn_core", *line],
            check=False,  # it tells by its exit code that a photo could not be read
            env=os.environ | {"LSN_RUNTIME": runtime},
            capture_output=True,
        )
        seconds[runtime] = round(time.perf_counter() - begun, 2)
    return seconds


def compare(eager: Detector, compiled: Detector, blobs: list[bytes]) -> dict[str, float]:
    """Largest difference of features, and verdicts and classes that differ."""
    crops = torch.stack([eager.backbone.crop(open_image(blob)) for blob in blobs])
    first, second = eager.backbone.encode_crops(crops), compiled.backbone.encode_crops(crops)
    pairs = list(zip(eager.predict_features(first), compiled.predict_features(second), strict=True))
    return {
        "photos": len(blobs),
        "largest_difference": float((first - second).abs().max()),
        "verdicts_that_differ": sum(one.verdict != other.verdict for one, other in pairs),
        "classes_that_differ": sum(one.predicted_class != other.predicted_class for one, other in pairs),
    }


def in_own_process(data: Path, count: int, kind: str) -> dict[str, Any]:
    """`largest_memory` in a process of its own."""
    line = [sys.executable, "-m", "benchmarks.speed.throughput", "--data", str(data), "--photos", str(count)]
    done = subprocess.run([*line, "--memory-of", kind], check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def largest_memory(data: Path, count: int, kind: str) -> dict[str, Any]:
    """Most memory in MiB while photos are scored into a CSV file, and how fast that went."""
    from lsn_core.verdicts import open_writer

    backbone = load_backbone("embedded", "cpu")
    backbone.runtime.compile()
    if kind == "10 classes":
        detector = Detector.load(DETECTOR, backbone)
    else:
        texts = F.normalize(torch.randn(1 + SETS, CLASSES, backbone.dim), dim=-1)
        detector = Detector(backbone, [f"class {i}" for i in range(CLASSES)], texts[0], texts[1:])
    photos = many(data, count)
    begun = time.perf_counter()
    with TemporaryDirectory() as folder, open_writer(Path(folder) / "verdicts.csv") as write:
        for index, prediction in enumerate(detector.stream(photos)):
            write({"file": photos.names[index], **prediction.as_dict()})
    seconds = time.perf_counter() - begun
    # Not getrusage's, which begins with the memory of the process that started this one.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {"peak_mib": round(int(status["VmHWM"].split()[0]) / 1024), "images_per_second": round(count / seconds, 1)}


def throughput_section(found: list[dict[str, Any]]) -> str:
    """The tables as Markdown: rates, and memory where it was measured."""
    (results,) = found
    rates = results["images_per_second"]
    slow = rates["JPEG files to verdicts, one after the other, PyTorch"]
    rows = [[name, f"{rate:,.0f}", f"{rate / slow:.1f}"] for name, rate in rates.items()]
    rows.append(["the tower's operations at the speed of PyTorch's matrix product", "", ""])
    rows[-1][1] = f"{results['floor_images_per_second']:,.0f}"
    agreement, seconds = results["agreement"], results["command_seconds"]
    parts = [
        markdown_table(["on this machine's CPU", "images/s", "against the first row"], rows),
        f"Of {agreement['photos']} photos, {agreement['verdicts_that_differ']} verdicts and "
        f"{agreement['classes_that_differ']} classes differ between compiled and PyTorch; features by at most "
        f"{agreement['largest_difference']:.1e}. The command `lsn score` on {results['photos']} files takes "
        f"{seconds['auto']:.1f} s from start to end, and {seconds['eager']:.1f} s with PyTorch.",
    ]
    if results["memory"]:
        lines = [
            [row["detector"], f"{row['photos']:,}", f"{row['peak_mib']:,}", f"{row['images_per_second']:.0f}"]
            for row in results["memory"]
        ]
        parts.append(markdown_table(["detector", "photos", "most memory, MiB", "images/s"], lines))
    return "\n\n".join(parts)


if __name__ == "__main__":
    main()
