"""Trains the detectors that ship, checkpoints/detectors/*.safetensors, from the training files of public image sets.

    python -m scripts.shipped_detectors --data DIR [--cache DIR] [NAME ...]
    python -m scripts.shipped_detectors --cards      # their cards alone, from the files

`benchmarks.detectors` measures them. `imagenette` knows Imagenette's ten classes; `everyday` knows things that the
camera of a phone meets, from classes of Tiny ImageNet (64 px), several of which may make one: six breeds are "dog".
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lsn_core import Detector, get_preset, load_backbone, load_data
from lsn_core.data.labelled import LabelledImages
from lsn_core.detector.card import write_card
from lsn_core.training.from_images import train_from_images

OUT = Path(__file__).resolve().parents[1] / "checkpoints" / "detectors"
EVERYDAY = {
    "dog": (
        "Chihuahua",
        "Yorkshire terrier",
        "golden retriever",
        "Labrador retriever",
        "German shepherd",
        "standard poodle",
    ),
    "cat": ("tabby", "Persian cat", "Egyptian cat"),
    "car": ("sports car", "convertible", "limousine", "beach wagon"),
    "bus": ("school bus", "trolleybus"),
    "butterfly": ("monarch", "sulphur butterfly"),
    "pizza": ("pizza",),
    "banana": ("banana",),
    "orange": ("orange",),
    "lemon": ("lemon",),
    "ice cream": ("ice cream",),
    "cup of coffee": ("espresso",),
    "teapot": ("teapot",),
    "bottle": ("pop bottle", "beer bottle"),
    "backpack": ("backpack",),
    "umbrella": ("umbrella",),
    "sunglasses": ("sunglasses",),
    "computer keyboard": ("computer keyboard",),
    "remote control": ("remote control",),
    "teddy bear": ("teddy",),
}


@dataclass(frozen=True)
class Recipe:
    """What a detector learns from: a file below --data, and its classes, each of one or more of its own; None: all."""

    file: str
    classes: Mapping[str, tuple[str, ...]] | None = None


RECIPES = {
    "everyday": Recipe("tinyimagenet/train.parquet", EVERYDAY),
    "imagenette": Recipe("imagenette/train.parquet"),
}


def main() -> None:
    """Trains those that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(RECIPES)}; default: all")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--cards", action="store_true", help="write the cards of the files that are there, no more")
    parser.add_argument("--cache", type=Path, default=Path("build/features"), help="image features")
    parser.add_argument("--shots", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if options.data is None and not options.cards:
        parser.error("--data is needed to train")
    backbone = load_backbone("embedded", "cpu")
    if options.cards:
        for name in options.names or RECIPES:
            save_card(Detector.load(OUT / f"{name}.safetensors", backbone), name)
        return
    for name in options.names or RECIPES:
        recipe = RECIPES[name]
        images = load_data(options.data / recipe.file)
        if recipe.classes is not None:
            images = merge_classes(images, recipe.classes)
        config = get_preset("fast", shots=options.shots, seed=options.seed)
        detector = train_from_images(images, backbone, config, cache=options.cache)
        detector.metrics["data"] = recipe.file
        detector.save(OUT / f"{name}.safetensors")
        save_card(detector, name)
        choice = detector.fit.choice
        print(f"{name}: {len(images.class_names)} classes, {detector.score_name}. {choice.reason if choice else ''}")


def save_card(detector: Detector, name: str) -> None:
    """Writes what a detector's file says of it beside the file."""
    text = write_card(detector, name, "apache-2.0", f"checkpoints/detectors/{name}.safetensors")
    (OUT / f"{name}.md").write_text(text, encoding="utf-8")


def merge_classes(images: LabelledImages, classes: Mapping[str, tuple[str, ...]]) -> LabelledImages:
    """The images of some classes under new names: new name -> names of the classes that make it."""
    members = [(name, number) for number, names in enumerate(classes.values()) for name in names]
    chosen = images.select_classes([name for name, _ in members])
    new = np.array([number for _, number in members], dtype=np.int64)
    return replace(chosen, class_names=tuple(classes), labels=new[chosen.labels])


if __name__ == "__main__":
    main()
