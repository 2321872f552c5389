"""The command line that all tables share: where images are, which backbone, which preset."""

from __future__ import annotations

import argparse
import logging
from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.harness.protocols import Split
from benchmarks.harness.report import RESULTS
from benchmarks.harness.setting import Setting
from benchmarks.harness.units import Run, here
from lsn_core import UserError, get_preset, load_backbone
from lsn_core.backbones.backbone import Backbone
from lsn_core.training.config import TrainConfig

DRAWS = 300


@dataclass(frozen=True)
class Bench:
    """What a table is made with.

    Attributes:
        config: how prompts are trained, for the first seed.
        seeds: each draws its own images and trains its own prompts.
        draws: bootstrap draws behind each interval.
        clock: seconds of training, of all settings.
        run: does the measurements of a table.
    """

    backbone: Backbone
    config: TrainConfig
    seeds: tuple[int, ...]
    folder: Path
    cocoop_images: int | None
    draws: int
    clock: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    run: Run = here

    def setting(self, split: Split, seed: int | None = None) -> Setting:
        """A split for one seed; None is the first."""
        config = replace(self.config, seed=self.seeds[0] if seed is None else seed)
        return Setting(self.backbone, split, config, self.folder, self.cocoop_images, self.clock)

    @property
    def facts(self) -> dict[str, Any]:
        """What numbers depend on, beside the images, the method and the seeds."""
        return {
            "backbone": self.backbone.name,
            "weights_hash": self.backbone.weights_hash,
            "preset": self.config.preset,
            "shots": self.config.shots,
            "draws": self.draws,
        }

    @property
    def arguments(self) -> str:
        """The command line that says the same, but for where images are."""
        seeds = ",".join(map(str, self.seeds))
        given = {"backbone": self.backbone.name, "preset": self.config.preset, "shots": self.config.shots}
        given |= {"seeds": seeds, "draws": self.draws}
        if self.cocoop_images is not None:
            given["cocoop-images"] = self.cocoop_images
        return " ".join(["--data DIR", *(f"--{name} {value}" for name, value in given.items())])


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the shared options."""
    parser.add_argument("--data", type=Path, help="folder of the image sets (cifar10, cifar100, tinyimagenet, ...)")
    forms = "'embedded', ARCH:TAG, hf-hub:ORG/REPO, local-dir:PATH, blip:ORG/REPO, blip:FOLDER"
    parser.add_argument("--backbone", default="embedded", help=forms)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--preset", default="fast", help="how prompts are trained: fast, reference or paper")
    parser.add_argument("--shots", type=int, default=128, help="labelled images per class")
    parser.add_argument("--seeds", type=whole_numbers, default=(0, 1, 2), help="comma-separated, for example 0,1,2")
    parser.add_argument("--draws", type=int, default=DRAWS, help="bootstrap draws behind each interval")
    parser.add_argument("--cocoop-images", type=int, help="most test images of either side that CoCoOp is measured on")
    parser.add_argument("--cache", type=Path, default=Path("build"), help="image features and trained detectors")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")


def whole_numbers(text: str) -> tuple[int, ...]:
    """Comma-separated numbers of a command line."""
    return tuple(int(part) for part in text.split(","))


def data_folder(options: argparse.Namespace) -> Path:
    """--data. Raises UserError where it is missing."""
    if options.data is None:
        raise UserError("--data is missing: the folder of the image sets.")
    return options.data


def show_progress() -> None:
    """Lines about what is being done, of the benchmarks alone: the library would tell of each cached feature."""
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    for name in ("benchmarks", "__main__"):
        logging.getLogger(name).setLevel(logging.INFO)


def open_bench(options: argparse.Namespace) -> Bench:
    """Loads the backbone. Raises UserError for a name, preset or weights that cannot be had."""
    config = get_preset(options.preset, shots=options.shots, seed=options.seeds[0])
    backbone = load_backbone(options.backbone, options.device)
    run = getattr(options, "run", here)
    return Bench(backbone, config, options.seeds, options.cache, options.cocoop_images, options.draws, run=run)
