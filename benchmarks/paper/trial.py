"""The whole command tried on a made-up tree, every kind of cell once: python -m benchmarks.paper.trial TRY.

Writes a tree and random weights of all five backbones (`made_up`) into TRY, and runs the parts below into TRY/run: what
the whole would cost; every row of the paper on up to 100 classes by the preset `paper`; every kind of prompt on every
backbone by the other presets; and prompts on all 1,000 classes. Schedules are of one update. Like the command itself it
may be killed, and goes on. `python -m benchmarks.paper.tried TRY/run` writes down what came of it.
"""

from __future__ import annotations

import argparse
import sys
from datetime import datetime, timezone
from pathlib import Path

from benchmarks.harness.options import show_progress
from benchmarks.paper.__main__ import ended_by_a_sentence, run
from benchmarks.paper.made_up import BLIP, wnids, write_tree, write_weights
from benchmarks.paper.options import parser

ARCHITECTURES = {
    "ViT-B/16": "ViT-B-16",
    "ViT-B/32": "ViT-B-32",
    "RN50x4": "RN50x4",
    "RN50": "RN50",
    "BLIP": BLIP,
}
PROMPTS = "MCM,CoOp,CoOp + LSN,CoCoOp,CoCoOp + LSN,DualCoOp"
EVERY = tuple(ARCHITECTURES)
PARTS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (EVERY, ("--plan",)),
    (EVERY, ("--classes", "ImageNet-10,ImageNet-20,ImageNet-100", "--presets", "paper")),
    (EVERY, ("--classes", "ImageNet-10", "--presets", "reference,fast", "--methods", PROMPTS, "--all")),
    (EVERY, ("--classes", "ImageNet-100", "--presets", "fast", "--methods", "CoOp,CoOp + LSN")),
    # The backbone whose 2,000 images are encoded soonest.
    (("ViT-B/32",), ("--classes", "ImageNet-1k", "--presets", "fast", "--methods", "MCM,CoOp,CoOp + LSN", "--all")),
)
"""Backbones, and what of the command is run on them."""
SHORT = ("--seeds", "0", "--shorten", "1", "--cocoop-images", "1", "--device", "cpu")
STARTED, ENDED = "started", "ended"
STARTS = "starts.txt"
"""In the run's folder: a line for each start, and for each end that was reached."""


def main() -> None:
    """Makes what is missing, and runs all parts."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path)
    folder = options.parse_args().folder
    show_progress()
    with ended_by_a_sentence(folder):
        failed = try_all(folder)
    if failed:
        sys.exit(f"{failed} cells could not be measured; {folder / 'run' / 'paper.md'} says why.")


def try_all(folder: Path) -> int:
    """Returns how many cells could not be measured."""
    out = folder / "run"
    out.mkdir(parents=True, exist_ok=True)
    _note(out, STARTED)
    names = make(folder)
    where = ("--imagenet", str(folder / "imagenet"), "--ood", str(folder / "ood"), "--out", str(out))
    failed = 0
    for titles, part in PARTS:
        print(f"\n== {', '.join(titles)}: {' '.join(part)}", flush=True)
        backbones = ",".join(f"{title}={names[title]}" for title in titles)
        failed += run(parser(None).parse_args([*where, "--backbones", backbones, *SHORT, *part]))
    _note(out, ENDED)
    return failed


def _note(out: Path, what: str) -> None:
    with open(out / STARTS, "a") as file:
        file.write(f"{what} {datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%SZ}\n")


def make(folder: Path) -> dict[str, str]:
    """The tree, and weights; what the tables call each backbone -> its name. A folder that is whole is left."""
    whole = folder / "weights.txt"
    if not whole.is_file():
        write_tree(folder, wnids(1000), 1, 1, 4)
        names = {title: write_weights(architecture, folder) for title, architecture in ARCHITECTURES.items()}
        whole.write_text("".join(f"{title}={name}\n" for title, name in names.items()))
    lines = (line.partition("=") for line in whole.read_text().splitlines())
    return {title: name for title, _, name in lines}


if __name__ == "__main__":
    main()
