"""The command line that all tables share: where images are, which backbone, which preset."""

from __future__ import annotations

import argparse
import logging
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.harness.protocols import Split
from benchmarks.harness.report import RESULTS
from benchmarks.harness.setting import COCOOP_IMAGES, Setting
from lsn_core import UserError, get_preset, load_backbone
from lsn_core.backbones.backbone import Backbone
from lsn_core.training.config import TrainConfig


@dataclass(frozen=True)
class Bench:
    """What a table is made with.

    Attributes:
        arguments: the command line that says the same, but for where images are.
        clock: seconds of training, of all settings.
    """

    backbone: Backbone
    config: TrainConfig
    folder: Path
    cocoop_images: int
    arguments: str
    clock: Counter[str] = field(default_factory=Counter)

    def setting(self, split: Split) -> Setting:
        return Setting(self.backbone, split, self.config, self.folder, self.cocoop_images, self.clock)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the shared options."""
    parser.add_argument("--data", type=Path, help="folder of the image sets (cifar10, cifar100, tinyimagenet, ...)")
    parser.add_argument("--backbone", default="embedded", help="'embedded', ARCH:TAG, hf-hub:ORG/REPO, local-dir:PATH")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--preset", default="fast", help="how prompts are trained: fast, reference or paper")
    parser.add_argument("--shots", type=int, default=128, help="labelled images per class")
    parser.add_argument(
        "--cocoop-images",
        type=int,
        default=COCOOP_IMAGES,
        help="most images that CoCoOp learns from, and most of either side that it is measured on",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, default=Path("build"), help="image features and trained detectors")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")


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
    config = get_preset(options.preset, shots=options.shots, seed=options.seed)
    backbone = load_backbone(options.backbone, options.device)
    settings = {
        "backbone": backbone.name,
        "preset": config.preset,
        "shots": config.shots,
        "cocoop-images": options.cocoop_images,
        "seed": config.seed,
    }
    arguments = " ".join(["--data DIR", *(f"--{name} {value}" for name, value in settings.items())])
    return Bench(backbone, config, options.cache, options.cocoop_images, arguments)
