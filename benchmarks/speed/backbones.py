"""Memory and time of the suggested backbones on two cores, at random weights: python -m benchmarks.speed.backbones.

Neither depends on the weights' values. PyTorch runs the image tower (LSN_RUNTIME=eager); compiled, it is faster.
"""

from __future__ import annotations

import argparse
import gc
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.harness.report import RESULTS, environment, markdown_table, replace_section, write_results
from lsn_core.shipped import EMBEDDED
from lsn_core.suggested import SUGGESTIONS

THREADS = 2
_PAGE = Path(__file__).resolve().parents[2] / "docs" / "backbones.md"
_PHOTOS, _REPEATS, _MOST_SECONDS = 8, 5, 12.0


def main() -> None:
    """Measures each in a process of its own, and writes results/backbones.json and the table in docs/backbones.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="names that hold this text")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": str(THREADS), "LSN_RUNTIME": "eager"}
    began = time.perf_counter()
    rows = []
    for one in tqdm([one for one in SUGGESTIONS if options.only in one.name], unit="backbone"):
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            rows.append(pool.submit(measure, one.name).result())
    results = {"command": "python -m benchmarks.speed.backbones", **environment(0), "threads": THREADS}
    write_results("backbones", results | {"seconds": round(time.perf_counter() - began), "rows": rows}, options.out)
    if options.out == RESULTS and not options.only:
        replace_section(_PAGE, "backbones", table(rows))


def table(rows: Sequence[dict[str, Any]]) -> str:
    """What was measured, as Markdown."""
    header = ["backbone", "million parameters", "pixels", "memory, GiB", "ms a photo", "ms a text"]
    lines = [
        [
            f"`{row['name']}`",
            f"{row['parameters'] / 1e6:,.0f}",
            str(row["image_size"]),
            f"{row['peak_gib']:.1f}",
            f"{row['photo_ms']:,.0f}",
            f"{row['text_ms']:,.0f}",
        ]
        for row in rows
    ]
    return markdown_table(header, lines)


def measure(name: str) -> dict[str, Any]:
    """One backbone: parameters, peak memory, milliseconds of a photo (in a batch) and of a text (alone)."""
    import torch
    from PIL import Image

    from benchmarks.stand_ins import stand_in
    from lsn_core.backbones.loading import load_backbone

    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory() as folder:
        arch = name.partition(":")[0]
        backbone = load_backbone(EMBEDDED, "cpu") if name == EMBEDDED else stand_in(arch, Path(folder))
        gc.collect()
        photos = [Image.new("RGB", (640, 480), (n * 30, 90, 120)) for n in range(_PHOTOS)]
        photo = _seconds(lambda: backbone.encode_images(photos)) / _PHOTOS
        text = _seconds(lambda: backbone.encode_texts(["a photo of a dog"]))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "name": name,
        "parameters": sum(parameter.numel() for parameter in backbone.model.parameters()),
        "image_size": max(backbone.preprocess(photos[0]).shape),
        "peak_gib": round(peak / (2**30 if sys.platform == "darwin" else 2**20), 2),
        "photo_ms": round(1000 * photo, 1),
        "text_ms": round(1000 * text, 1),
    }


def _seconds(work: Any) -> float:
    """The median of several runs after a first one; fewer where one takes long."""
    work()
    taken: list[float] = []
    while len(taken) < _REPEATS and (not taken or sum(taken) < _MOST_SECONDS):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


if __name__ == "__main__":
    main()
