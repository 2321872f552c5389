"""Measures a backbone's zero-shot accuracy, its speed and its answers to the paper's questions about "not".

    python -m benchmarks.embedded_clip --data ../shared/data
    python -m benchmarks.embedded_clip --data ../shared/data --ablation build/embedded-clip-ablation \\
        --other OLD --write-card

The second also measures the ablation build (see scripts/embedded_clip/build.py --hold-out 100) on the classes it never
saw, compares the speed with that of another checkpoint's folder, and writes the tables into the model card.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness.report import environment, markdown_table, replace_section, write_results
from lsn_core.backbones.backbone import Backbone
from lsn_core.backbones.loading import load_backbone
from lsn_core.data.features import extract_features
from lsn_core.data.images import open_image
from lsn_core.data.labelled import LabelledImages, load_data
from lsn_core.prompts.written import NEGATIVE_TEMPLATE, POSITIVE_TEMPLATE, fill
from lsn_core.shipped import EMBEDDED_DIR

SETS = {  # set: split, bar in percent, what the number means
    "imagenet1k": ("test", 80, "1,000-way, one photo for each of 500 classes"),
    "imagenette": ("val", 99, "10-way"),
    "caltech101": ("test", 88, "101-way"),
    "miniplaces": ("val", 47, "100-way, scenes"),
    "cifar10": ("test", 71, "10-way"),
    "cifar100": ("test", 39, "100-way"),
}
SEEN = {  # what the build read of each set, or of photos like its own
    "imagenet1k": "no photo of this sample; the trunk's makers: all of ImageNet with labels",
    "imagenette": "1,152 photos of its train file",
    "caltech101": "455 photos of its train file, 4 or 5 a class",
    "miniplaces": "2,700 photos of its train file, 27 a class",
    "cifar10": "none",
    "cifar100": "none",
    "tinyimagenet": "9,000 photos of its train file, 45 a class; of held-out classes none",
}
HELD_OUT_BARS = {"imagenet1k": 50, "tinyimagenet": 33}
EXAMPLES = Path(__file__).resolve().parent.parent / "assets" / "examples"


def main() -> None:
    """Measures and writes benchmarks/results/embedded_clip.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the image sets")
    parser.add_argument("--backbone", default="embedded")
    parser.add_argument("--ablation", type=Path, help="folder of the build with held-out classes")
    parser.add_argument("--other", type=Path, help="folder of another checkpoint, to compare the speed with")
    parser.add_argument("--cache", type=Path, default=Path("build/features"), help="where image features are kept")
    parser.add_argument("--write-card", action="store_true", help="write the tables into the model card")
    options = parser.parse_args()
    backbone = load_backbone(options.backbone)
    results: dict[str, Any] = {"backbone": backbone.name, "weights_hash": backbone.weights_hash, **environment()}
    results["template"] = POSITIVE_TEMPLATE
    results["zero_shot"] = {name: zero_shot(backbone, name, options) for name in SETS}
    results["temperature"] = round(backbone.temperature, 5)
    results["kept_photos"] = json.loads((EMBEDDED_DIR / "build.json").read_text())["kept_photos"]
    results["threads"] = torch.get_num_threads()
    results["images_per_second"] = images_per_second(backbone)
    if options.other:
        results["images_per_second_of_other"] = images_per_second(load_backbone(f"local-dir:{options.other}"))
    results["not"] = questions_about_not(backbone)
    if options.ablation:
        results["held_out"] = held_out(options)
    print(json.dumps(results, indent=2))
    path = write_results("embedded_clip", results)
    print(f"written to {path}")
    if options.write_card:
        card = EMBEDDED_DIR / "README.md"
        replace_section(card, "accuracy", accuracy_table(results))
        replace_section(card, "calibration", calibration_table(results))
        replace_section(card, "not", not_table(results))


def load_set(name: str, split: str, options: argparse.Namespace) -> LabelledImages:
    """One image set with its own full list of class names, also of classes that the sample has no photo of."""
    data = load_data(options.data / name / f"{split}.parquet")
    classes = json.loads((options.data / "class_names.json").read_text())[name]["classes"]
    return dataclasses.replace(data, class_names=tuple(classes))


def features_of(backbone: Backbone, data: LabelledImages, options: argparse.Namespace) -> torch.Tensor:
    """Image features (N, D), cached."""
    options.cache.mkdir(parents=True, exist_ok=True)
    return extract_features(backbone, data, cache=options.cache).features


def zero_shot(backbone: Backbone, name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Top-1 accuracy with one template, "a photo of a {}"."""
    split, bar, about = SETS[name]
    data = load_set(name, split, options)
    texts = backbone.encode_texts([fill(POSITIVE_TEMPLATE, c) for c in data.class_names])
    right = (features_of(backbone, data, options) @ texts.T).argmax(-1).numpy() == data.labels
    return {
        "split": split,
        "top1": round(float(right.mean()), 4),
        "images": len(data),
        "classes": len(data.class_names),
        "bar": bar,
        "about": about,
    }


def held_out(options: argparse.Namespace) -> dict[str, Any]:
    """The ablation build on the ImageNet classes whose rows and photos it never saw, among those classes alone."""
    build = json.loads((options.ablation / "build.json").read_text())
    backbone = load_backbone(f"local-dir:{options.ablation}")
    classes = build["held_out_classes"]
    found = {"classes": len(classes), "build": build}
    imagenet = load_set("imagenet1k", "test", options)
    texts = backbone.encode_texts([fill(POSITIVE_TEMPLATE, imagenet.class_names[c]) for c in classes])
    place = {c: i for i, c in enumerate(classes)}
    wnids = {wnid: i for i, wnid in enumerate(build["held_out_wnids"])}
    tiny = json.loads((options.data / "class_names.json").read_text())["tinyimagenet"]["wnids"]
    for name, split, where in (
        ("imagenet1k", "test", place),
        ("tinyimagenet", "val", {i: wnids[w] for i, w in enumerate(tiny) if w in wnids}),
    ):
        data = load_set(name, split, options)
        chosen = np.array([i for i, label in enumerate(data.labels) if int(label) in where])
        target = np.array([where[int(label)] for label in data.labels[chosen]])
        answer = (features_of(backbone, data.subset(chosen), options) @ texts.T).argmax(-1).numpy()
        found[name] = {"top1": round(float((answer == target).mean()), 4), "images": len(chosen)}
    return found


def images_per_second(backbone: Backbone, count: int = 256) -> float:
    """Decoding, preprocessing and encoding of JPEG files, in batches of 32; the best of three rounds."""
    blobs = [path.read_bytes() for path in sorted(EXAMPLES.glob("*.jpg"))]
    blobs = (blobs * (count // len(blobs) + 1))[:count]
    backbone.encode_images([open_image(blobs[0])])
    rates = []
    for _ in range(3):
        start = time.perf_counter()
        for at in range(0, count, 32):
            backbone.encode_images([open_image(blob) for blob in blobs[at : at + 32]])
        rates.append(count / (time.perf_counter() - start))
    return round(max(rates), 1)


def questions_about_not(backbone: Backbone) -> dict[str, Any]:
    """The paper's Figures 3, 4 and 8: two texts, one photo, the model's choice at its own temperature.

    Figure 8's two findings are measured over all example photos and pairs of their classes.
    """
    questions = [
        ("Figure 3", "elephant", "not a photo of an elephant", "not a photo of a dog"),
        ("Figure 3", "dog", "not a photo of a dog", "not a photo of a cat"),
        ("Figure 4, before", "elephant", "a photo of a cat", "a photo of a dog"),
        ("Figure 4, after", "elephant", "a photo of a cat", "not a photo of a dog"),
        ("Figure 4, after", "elephant", "not a photo of a cat", "a photo of a dog"),
    ]
    answers = []
    for figure, photo, first, second in questions:
        features = backbone.encode_images([open_image(EXAMPLES / f"{photo}.jpg")])
        cosines = (features @ backbone.encode_texts([first, second]).T)[0]
        share = (cosines / backbone.temperature).softmax(-1).tolist()
        answers.append({"figure": figure, "photo": photo, "texts": [first, second], "probabilities": share})
    names = [path.stem.replace("_", " ") for path in sorted(EXAMPLES.glob("*.jpg"))]
    plain = backbone.encode_texts([fill(POSITIVE_TEMPLATE, n) for n in names])
    negated = backbone.encode_texts([fill(NEGATIVE_TEMPLATE, n) for n in names])
    photos = backbone.encode_images([open_image(path) for path in sorted(EXAMPLES.glob("*.jpg"))])
    prefers_negated_name = (photos @ negated.T).argmax(-1) == torch.arange(len(names))
    said_no = (photos @ negated.T) > (photos @ plain.T)
    own = torch.eye(len(names), dtype=torch.bool)
    return {
        "answers": answers,
        "cosine_of_plain_to_negated": round(float((plain * negated).sum(-1).mean()), 4),
        "cosine_to_another_class": round(float((plain @ plain.T)[~own].mean()), 4),
        "not_own_class_chosen_before_another_class": round(
            float(((photos @ negated.T).diagonal()[:, None] > photos @ plain.T)[~own].float().mean()), 4
        ),
        "photos_best_matched_by_not_their_own_class": round(float(prefers_negated_name.float().mean()), 4),
        "not_chosen_for_own_class": round(float(said_no[own].float().mean()), 4),
        "not_chosen_for_other_classes": round(float(said_no[~own].float().mean()), 4),
    }


def accuracy_table(results: dict[str, Any]) -> str:
    """Zero-shot accuracies beside the bars set before the model was built, and what the build saw of each set."""
    rows = [
        [f"{name} ({r['split']})", f"{100 * r['top1']:.1f} %", f"{r['bar']} %", r["about"], SEEN[name]]
        for name, r in results["zero_shot"].items()
    ]
    for name, bar in HELD_OUT_BARS.items():
        if found := results.get("held_out", {}).get(name):
            about = (
                f"{results['held_out']['classes']}-way, classes held out of a second build; {found['images']} photos"
            )
            rows.append([f"held out: {name}", f"{100 * found['top1']:.1f} %", f"{bar} %", about, SEEN[name]])
    threads = results["threads"]
    about = f"{threads} thread{'s' * (threads > 1)}, JPEG decoding included"
    if other := results.get("images_per_second_of_other"):
        about += f"; the checkpoint of version 0.1 in the same run: {other} images/s"
    rows.append(["speed", f"{results['images_per_second']} images/s", "0.7 of version 0.1", about, ""])
    return markdown_table(["measured", "top-1", "bar", "what it is", "what the build saw"], rows)


def calibration_table(results: dict[str, Any]) -> str:
    """Expected calibration error on the training files' photos that nothing was fitted to."""
    rows = [
        [name, str(r["photos"]), f"{100 * r['top1']:.1f} %", f"{100 * r['calibration_error']:.1f} %"]
        for name, r in results["kept_photos"].items()
    ]
    return markdown_table(["kept photos of", "photos", "top-1", "expected calibration error"], rows)


def not_table(results: dict[str, Any]) -> str:
    """The model's answers to the paper's questions."""
    rows = []
    for a in results["not"]["answers"]:
        first, second = a["probabilities"]
        choice = a["texts"][0] if first > second else a["texts"][1]
        texts = [f'"{t}" {p:.2f}' for t, p in zip(a["texts"], (first, second), strict=True)]
        rows.append([a["figure"], a["photo"], *texts, f'"{choice}"'])
    asked = (
        ("not_own_class_chosen_before_another_class", '"not a photo of OWN CLASS"', '"a photo of ANOTHER"'),
        ("not_chosen_for_other_classes", '"not a photo of ANOTHER"', '"a photo of ANOTHER"'),
    )
    for key, first, second in asked:
        share = results["not"][key]
        rows.append(["Figure 8", "all 16", first, second, f"text 1 in {100 * share:.0f} % of pairs"])
    return markdown_table(["question", "photo", "text 1", "text 2", "chosen"], rows)


if __name__ == "__main__":
    main()
