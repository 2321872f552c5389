"""What more machines and more classes cost: one machine's way beside a Ray cluster's, all in one run, as ratios.

    python -m benchmarks.speed.scale --data DIR [--photos 1500] [--only features,classes]

Writes benchmarks/results/scale.json and scale.md. Each part is a `Section`; with --only, the others are kept from the
earlier run. Photos are Imagenette's, each made a file of its own; the ways take turns, and a figure is the median.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil
import torch
import torch.nn.functional as F

from benchmarks.harness.report import RESULTS, environment, markdown_table, write_results
from benchmarks.speed import scale_jobs, scale_shards
from benchmarks.speed.throughput import DETECTOR, many
from lsn_core import Detector, UserError, load_backbone
from lsn_core.cluster.address import connected
from lsn_core.cluster.features import Cluster, cluster_rows
from lsn_core.data.feature_stream import FeatureStream, unopened
from lsn_core.data.photos import open_photos

ROUNDS = 2
COUNTS = (10, 1000, 21841)
SETS = 3
PART = 32  # images in a task, so that all workers have some in so few photos
Results = dict[str, Any]
Rows = list[np.ndarray]


@dataclass(frozen=True)
class Section:
    """A part of what is measured.

    Attributes:
        title: its headline.
        measure: the options -> plain values for the JSON file.
        table: those values -> Markdown.
    """

    title: str
    measure: Callable[[argparse.Namespace], Results]
    table: Callable[[Results], str]


def main() -> None:
    """Measures, writes both files and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the image sets")
    parser.add_argument("--photos", type=int, default=1500)
    parser.add_argument("--only", help=f"comma-separated: {', '.join(SECTIONS)}; default: all")
    options = parser.parse_args()
    names = options.only.split(",") if options.only else list(SECTIONS)
    if unknown := [name for name in names if name not in SECTIONS]:
        sys.exit(f"There is no section {unknown[0]!r}. Known ones: {', '.join(SECTIONS)}.")
    path = RESULTS / "scale.json"
    earlier = json.loads(path.read_text())["rows"][0] if path.is_file() else {}
    found = {name: SECTIONS[name].measure(options) if name in names else earlier.get(name) for name in SECTIONS}
    row = {name: values for name, values in found.items() if values is not None}
    write_results("scale", environment(seed=0) | {"rows": [row]})
    (RESULTS / "scale.md").write_text(scale_section([row]) + "\n")
    print(scale_section([row]))


def scale_section(found: list[Results]) -> str:
    """All sections that were measured, as Markdown."""
    (row,) = found
    return "\n\n".join(f"**{SECTIONS[name].title}**\n\n{SECTIONS[name].table(row[name])}" for name in row)


# -- features: one machine's way, and a cluster's ---------------------------------------------------------------------


def measure_features(options: argparse.Namespace) -> Results:
    """Photos a second of one process and of 1 and 2 workers, what differs, and what a killed worker costs."""
    detector = Detector.load(DETECTOR, load_backbone("embedded", "cpu"))
    images = many(options.data, options.photos)
    rates: dict[str, list[float]] = {}
    rows: dict[str, Rows] = {}
    starts: list[float] = []
    with TemporaryDirectory() as folder, connected("local") as ray:
        for index in range(len(images)):
            Path(folder, f"{index:06}.jpg").write_bytes(images.read(index))
        photos = open_photos([folder])
        reopen = partial(open_photos, [folder])

        def on_ray(workers: int, sees: bool = True) -> Iterator[np.ndarray]:
            cluster = Cluster("local", workers, "cpu")
            seen = cluster_rows(cluster, detector.backbone, photos, reopen if sees else None, most=PART)
            with closing(seen):
                yield from map(_feature, seen)

        def plain() -> Iterator[np.ndarray]:
            yield from map(_feature, FeatureStream(detector.backbone).run(unopened(photos), len(photos)))

        cpus = int(ray.cluster_resources()["CPU"])
        ways: dict[str, Callable[[], Iterator[np.ndarray]]] = {
            "one process, without Ray": plain,
            f"Ray, 1 worker of {cpus} CPUs": lambda: on_ray(1),
            f"Ray, 2 workers of {cpus // 2 or 1} CPUs": lambda: on_ray(2),
            f"Ray, 1 worker of {cpus} CPUs, photos sent to it": lambda: on_ray(1, sees=False),
        }
        detector.backbone.expect(len(photos))  # the tower is converted before anything is timed
        for _ in range(ROUNDS):
            for name, way in ways.items():
                begun = time.perf_counter()
                rows[name], rate, first = timed(way())
                rates.setdefault(name, []).append(rate)
                starts += [first - begun] * name.startswith("Ray")
        begun = time.perf_counter()
        killed, _, _ = timed(killing(on_ray(2), len(photos) // 3))
        killed_seconds = time.perf_counter() - begun
    base = rows["one process, without Ray"]
    return {
        "photos": len(photos),
        "cpus": cpus,
        "runtime": detector.backbone.runtime.name,
        "images_per_second": {name: round(statistics.median(found), 1) for name, found in rates.items()},
        "all_rounds": {name: [round(rate, 1) for rate in found] for name, found in rates.items()},
        "seconds_to_first_feature": round(statistics.median(starts), 1),
        "differences": {name: compare(detector, base, found) for name, found in rows.items() if found is not base},
        "one_of_2_workers_killed": compare(detector, base, killed) | {"seconds": round(killed_seconds, 1)},
    }


def _feature(pair: tuple[int, np.ndarray | UserError]) -> np.ndarray:
    if isinstance(pair[1], UserError):
        raise pair[1]
    return pair[1]


def timed(rows: Iterator[np.ndarray]) -> tuple[Rows, float, float]:
    """All rows, how many a second came after the first part of them, and when the first one came."""
    found = [next(rows)]
    first = time.perf_counter()
    begun = 0.0
    for row in rows:
        found.append(row)
        if len(found) == 4 * PART:  # the queues are full, and what was made ready while others started is gone
            begun = time.perf_counter()
    return found, (len(found) - 4 * PART) / (time.perf_counter() - begun), first


def killing(rows: Iterator[np.ndarray], place: int) -> Iterator[np.ndarray]:
    """The rows; after so many of them, one worker is killed."""
    for index, row in enumerate(rows):
        if index == place:
            _workers()[0].kill()
        yield row


def _workers() -> list[psutil.Process]:
    """Processes of this machine's own Ray that hold a backbone: actors, children of what `connected` started."""
    own = psutil.Process().children(recursive=True)
    return [process for process in own if process.status() != psutil.STATUS_ZOMBIE and _is_worker(process)]


def _is_worker(process: psutil.Process) -> bool:
    line = process.cmdline()  # Ray names its workers by what they do
    return bool(line) and line[0].startswith("ray::FeatureWorker")


def compare(detector: Detector, rows: Rows, others: Rows) -> Results:
    """How two ways' features of the same photos differ, and their verdicts."""
    first, second = np.stack(rows), np.stack(others)
    verdicts = [[one.verdict for one in detector.stream_rows(found, cosines=False)] for found in (rows, others)]
    return {
        "largest_difference": float(np.abs(first - second).max()),
        "equal_rows": int((first == second).all(axis=1).sum()),
        "verdicts_that_differ": sum(one != other for one, other in zip(*verdicts, strict=True)),
    }


def features_table(found: Results) -> str:
    """Rates, and what differs from one process."""
    rates = found["images_per_second"]
    base = rates["one process, without Ray"]
    lines = []
    for name, rate in rates.items():
        line = [name, f"{rate:.0f}", f"{100 * (rate / base - 1):+.0f} %"]
        if (other := found["differences"].get(name)) is not None:
            line += [f"{other['largest_difference']:.1e}", str(other["verdicts_that_differ"])]
        lines.append(line + [""] * (5 - len(line)))
    header = ["photos to features", "images/s", "against one process", "features differ by", "verdicts that differ"]
    killed = found["one_of_2_workers_killed"]
    return (
        f"{markdown_table(header, lines)}\n\n{found['photos']:,} JPEG files on one machine of {found['cpus']} CPUs "
        f"({found['runtime']}); the first feature comes after {found['seconds_to_first_feature']:.0f} s, which the "
        "rates leave out. With one of two workers killed on the way none is lost and none comes twice: features differ "
        f"by at most {killed['largest_difference']:.1e} and {killed['verdicts_that_differ']} verdicts."
    )


# -- classes: what long lists of them cost ----------------------------------------------------------------------------


def measure_classes(options: argparse.Namespace) -> Results:
    """Texts a second, and verdicts a second from features, by the number of classes."""
    backbone = load_backbone("embedded", "cpu")
    texts = [f"a photo of a thing of kind {index}" for index in range(512)]
    backbone.encode_texts(texts[:64])
    begun = time.perf_counter()
    backbone.encode_texts(texts)
    found: Results = {"texts_per_second": round(len(texts) / (time.perf_counter() - begun), 1), "sets": SETS}
    generator = torch.Generator().manual_seed(0)
    rates = {}
    for count in COUNTS:
        prompts = F.normalize(torch.randn(1 + SETS, count, backbone.dim, generator=generator), dim=-1)
        detector = Detector(backbone, [f"class {index}" for index in range(count)], prompts[0], prompts[1:])
        batches = F.normalize(torch.randn(4, 32, backbone.dim, generator=generator), dim=-1)
        rates[str(count)] = [_verdict_rate(detector, batches, cosines) for cosines in (False, True)]
    return found | {"dim": backbone.dim, "verdicts_per_second": rates}


def _verdict_rate(detector: Detector, batches: torch.Tensor, cosines: bool) -> float:
    rates = []
    detector.predict_features(batches[0], cosines=cosines)  # what is made once is made
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        for batch in batches:
            detector.predict_features(batch, cosines=cosines)
        rates.append(batches.shape[0] * batches.shape[1] / (time.perf_counter() - begun))
    return round(statistics.median(rates), 1)


def classes_table(found: Results) -> str:
    """What a list of classes costs, by its length."""
    lines = []
    for count, (without, with_cosines) in found["verdicts_per_second"].items():
        prompts = int(count) * (1 + found["sets"])
        seconds, mib = prompts / found["texts_per_second"], prompts * found["dim"] * 4 / 2**20
        size = f"{mib:.1f}" if mib < 10 else f"{mib:.0f}"
        lines.append(
            [f"{int(count):,}", f"{prompts:,}", f"{seconds:,.0f}", size, f"{without:,.0f}", f"{with_cosines:,.0f}"]
        )
    header = [
        "classes",
        "prompts",
        "seconds to encode them",
        "MiB",
        "verdicts/s to CSV or Parquet",
        "verdicts/s to JSON",
    ]
    return (
        f"{markdown_table(header, lines)}\n\nWith {found['sets']} negative prompts a class, from features, by one "
        "process. JSON lines hold the cosines to all prompts."
    )


SECTIONS: dict[str, Section] = {
    "features": Section("Photos to features, with and without Ray", measure_features, features_table),
    "classes": Section("Long lists of classes", measure_classes, classes_table),
    "jobs": Section("Training jobs, with and without Ray", lambda _: scale_jobs.section(), scale_jobs.table),
    "shards": Section("Classes divided over processes", lambda _: scale_shards.section(), scale_shards.table),
}
"""By name, in the order of the page."""


if __name__ == "__main__":
    main()
