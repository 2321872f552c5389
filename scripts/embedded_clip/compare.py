"""Compares ways to fit the image side, on photos that no fit saw: the table of what was tried in the model card.

    python -m scripts.embedded_clip.compare --data ../shared/data

Words have the directions that the text tower would be taught, so that no text tower needs to be trained. A variation
that is already in the results file is not fitted again.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.harness.report import RESULTS, environment, markdown_table, replace_section, write_results
from scripts.embedded_clip.anchors import fit_space
from scripts.embedded_clip.build import FIT, REPO
from scripts.embedded_clip.captions import Vocabulary
from scripts.embedded_clip.measure import Labelled, kept_sets, known_before_unknown, unknown_classes
from scripts.embedded_clip.photos import find_kinds, gather
from scripts.embedded_clip.vision import TRUNK, cached_features, compile_trunk, load_trunk, training_features
from scripts.embedded_clip.vocabulary import make_vocabulary, place_words
from scripts.embedded_clip.wordnet import find_wordnet, load_wordnet, wnid_offset
from scripts.embedded_clip.words import choose_nouns

log = logging.getLogger("compare")
VARIATIONS = {  # name: trunk and how the projection is fitted
    "shipped": (TRUNK, FIT),
    "256 wide": (TRUNK, replace(FIT, dim=256)),
    "384 wide": (TRUNK, replace(FIT, dim=384)),
    "128 of the directions start as the photos' own": (TRUNK, replace(FIT, variance=128)),
    "no ranking of known before unknown": (TRUNK, replace(FIT, unknown=0.0)),
    "cosines to absent kinds left free": (TRUNK, replace(FIT, straightness=0.0)),
    "scenes count as much as other photos": (TRUNK, replace(FIT, scenes=1.0)),
    "twice the steps": (TRUNK, replace(FIT, steps=2 * FIT.steps)),
    "efficientnet-lite0": ("tf_efficientnet_lite0", FIT),
}
ZOC = ("CIFAR10", "CIFAR+10", "CIFAR+50", "CIFAR100")


def main() -> None:
    """Fits and measures each variation, and writes benchmarks/results/embedded_clip_compare.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the image sets")
    parser.add_argument("--work", type=Path, default=REPO / "build" / "embedded-clip")
    parser.add_argument("--only", nargs="*", choices=VARIATIONS, help="these variations alone")
    parser.add_argument("--write-card", action="store_true", help="write the table into the model card")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    path = RESULTS / "embedded_clip_compare.json"
    results = json.loads(path.read_text()) if path.exists() else environment(seed=0) | {"variations": {}}
    for name in options.only or VARIATIONS:
        trunk, config = VARIATIONS[name]
        settings = {"trunk": trunk, **asdict(config)}
        if results["variations"].get(name, {}).get("settings") != settings:
            results["variations"][name] = {"settings": settings, **measure(name, options)}
            write_results("embedded_clip_compare", results)
    if options.write_card:
        replace_section(REPO / "checkpoints" / "embedded-clip" / "README.md", "tried", table(results["variations"]))


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """One variation: accuracy and MCM on the kept photos of each set, and on CIFAR's training files."""
    trunk_name, config = VARIATIONS[name]
    names = json.loads((options.data / "class_names.json").read_text())
    clean, wnids = names["imagenet1k"]["classes"], names["imagenet1k"]["wnids"]
    photos, kept = gather(training_features(options.data, options.work, 0, trunk_name), clean, wnids, set())
    trunk = load_trunk(trunk_name)
    net = load_wordnet(find_wordnet())
    offsets = [wnid_offset(wnid) for wnid in wnids]
    kinds = find_kinds(net, offsets, set())
    started = time.monotonic()
    rows, bias = trunk.classifier.weight.detach(), trunk.classifier.bias.detach()
    space = fit_space(photos, rows, bias, set(), kinds, 0, config)
    seconds = time.monotonic() - started
    nouns = choose_nouns(net, offsets, 24000, nearest_sense=True)
    meanings = place_words(net, offsets, nouns, space, kinds, set(), options.work)
    words = make_vocabulary(net, offsets, clean, nouns, meanings, photos, space, kinds)
    found: dict[str, Any] = {"seconds": round(seconds)}
    for group, labelled in kept_sets(kept, space.projection, space.anchors).items():
        auroc, fpr95 = unknown_classes(labelled)
        found[kept.set_name(group)] = {"top1": labelled.top1, "auroc": auroc, "fpr95": fpr95}
    cifar = {}
    for name in ("cifar10", "cifar100"):
        features, labels = cached_features(
            options.data / name / "train.parquet",
            options.work / f"plain-{trunk_name}-{name}.npz",
            lambda: compile_trunk(trunk),
            0,
            ("plain",),
        )
        with torch.no_grad():
            projected = space.projection(features[:, 0])
        cifar[name] = Labelled(projected, labels, named(words, names[name]["classes"]))
        found[name] = {"top1": cifar[name].top1}
    found["splits of CIFAR"] = splits(cifar, names)
    log.info("%s: %s", name, found)
    return found


def named(words: Vocabulary, class_names: list[str]) -> Tensor:
    """Directions of class names, (C, D); of "maple tree" where there is no such word, that of "maple"."""
    index = {word.lower(): i for i, word in enumerate(words.names)}
    forms = ((name, name.removesuffix(" tree"), name.split()[-1]) for name in class_names)
    return words.targets[[next(index[form] for form in tried if form in index) for tried in forms]]


def splits(sets: dict[str, Labelled], names: dict[str, Any]) -> dict[str, float]:
    """AUROC and FPR95 of MCM (τ = 1), the mean over the protocols of Table 3 on CIFAR, in each over its splits."""
    protocols = json.loads((REPO / "benchmarks" / "data" / "zoc_splits.json").read_text())
    means = []
    for protocol in (protocols[name] for name in ZOC):
        known, unknown = sets[protocol["id_set"]], sets[protocol["ood_set"]]
        found = []
        for split in protocol["splits"]:
            inside = [names[protocol["id_set"]]["classes"].index(name) for name in split["id_names"]]
            outside = [names[protocol["ood_set"]]["classes"].index(name) for name in split["ood_names"]]
            found.append(known_before_unknown(known, inside, unknown, outside))
        means.append(np.mean(found, axis=0))
    auroc, fpr95 = np.mean(means, axis=0)
    return {"auroc": float(auroc), "fpr95": float(fpr95)}


def table(variations: dict[str, Any]) -> str:
    """One row a variation."""
    sets = ("imagenet", "caltech101", "miniplaces", "cifar10", "cifar100")
    ranked = ("imagenet", "miniplaces", "splits of CIFAR")
    rows = []
    for name, found in variations.items():
        accuracy = [f"{100 * found[s]['top1']:.1f}" for s in sets]
        rows.append(
            [name, *accuracy, *(f"{100 * found[s]['auroc']:.1f} / {100 * found[s]['fpr95']:.1f}" for s in ranked)]
        )
    header = ["variation", *(f"top-1, {s}" for s in sets), *(f"MCM, {s}" for s in ranked)]
    return markdown_table(header, rows)


if __name__ == "__main__":
    main()
