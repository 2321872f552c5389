"""Measures heat map methods: do the places they mark matter, are they on the named thing, and what do they cost?

    python -m benchmarks.heatmaps --data ../shared/data            # all parts, about 50 minutes on two cores
    python -m benchmarks.heatmaps --data ../shared/data --parts cost,sides

- faithfulness: 200 Imagenette photos, the positive prompt of the predicted class. Pixels are taken away (deletion,
  grey) or given back (insertion, into a blurred photo) in the order of the map; the area under the curve of the cosine
  tells how soon it falls or rises. ROAD (Rong et al., 2022, pytorch-grad-cam's) fills what it takes away from the
  neighbours, so that the shape of the hole tells nothing; its figure is half of least less most relevant first. Higher
  is better, but for deletion. `gain` is insertion less deletion.
- sides: 100 photos of a dog on the left and a car on the right, and 100 of two different Imagenette classes; the share
  of the positive mass of a map that lies on the half of the thing that its prompt names.
- cost: positive and three negative prompts on one image, against one forward and backward pass of the image tower.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from pytorch_grad_cam.metrics.road import ROADCombined
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.harness.report import PAGE, RESULTS, environment, markdown_table, replace_section, write_results
from benchmarks.speed.training_speed import random_backbone
from lsn_core import Backbone, Detector, load_backbone
from lsn_core.backbones.image_tower import View, view_image
from lsn_core.data.images import open_image
from lsn_core.data.labelled import LabelledImages, load_data
from lsn_core.heatmaps.maps import heat_maps
from lsn_core.heatmaps.methods import DEFAULT_METHOD, fitting_methods
from lsn_core.heatmaps.targets import ImagePrompts, Target, prompt_targets

RANDOM = "random map"
RANDOM_TOWER = "ViT-S-32"  # random weights: what a method does to a tower that has learned nothing
COST_TOWER = "ViT-B-16"
STEPS = 6
ROAD_PERCENTILES = [70, 90]  # three tenths and a tenth of the pixels filled in


class Cosine(nn.Module):
    """Pixels (N, 3, H, W) -> cosine to one prompt, (N,)."""

    def __init__(self, backbone: Backbone, direction: Tensor) -> None:
        super().__init__()
        self.visual, self.direction = backbone.model.visual, direction

    def forward(self, pixels: Tensor) -> Tensor:
        return F.normalize(self.visual(pixels), dim=-1) @ self.direction


def one_map(method: str, view: View, targets: list[Target], reference: Tensor, rng: np.random.Generator) -> np.ndarray:
    """(N, h, w); the random map has the tower's grid, too."""
    if method == RANDOM:
        return rng.random((len(targets), *view.activations.shape[1:]), dtype=np.float32)
    return heat_maps(view, targets, method, reference).values


def enlarge(values: np.ndarray, size: tuple[int, int]) -> Tensor:
    return F.interpolate(torch.from_numpy(values)[None, None], size, mode="bilinear", align_corners=False)[0, 0]


# -- faithfulness ------------------------------------------------------------------------------------------------------


class Curves:
    """Deletion and insertion on one image; what both begin and end with is computed once for all methods."""

    @torch.no_grad()
    def __init__(self, model: Cosine, pixels: Tensor) -> None:
        self.model, self.pixels = model, pixels
        self.blurred = F.avg_pool2d(F.pad(pixels, (15,) * 4, mode="reflect"), 31, stride=1)
        self.whole, self.blank, self.vague = model(torch.cat([pixels, pixels * 0.0, self.blurred])).tolist()

    @torch.no_grad()
    def areas(self, relevance: Tensor) -> tuple[float, float]:
        """Under the deletion and the insertion curve of the cosine, by the trapezoid rule."""
        order = relevance.flatten().argsort(descending=True, stable=True)
        rank = torch.empty_like(order)
        rank[order] = torch.arange(len(order))
        parts = []
        for step in range(1, STEPS):
            chosen = (rank < round(step / STEPS * len(order))).view(1, 1, *relevance.shape)
            parts += [self.pixels.masked_fill(chosen, 0.0), torch.where(chosen, self.pixels, self.blurred)]
        between = self.model(torch.cat(parts)).view(STEPS - 1, 2).numpy()
        values = np.vstack([[self.whole, self.vague], between, [self.blank, self.whole]])
        deletion, insertion = np.trapezoid(values, dx=1 / STEPS, axis=0)
        return float(deletion), float(insertion)


def faithfulness(name: str, data: Path, count: int, seed: int) -> list[dict[str, Any]]:
    """In a process of its own for each tower, with one thread."""
    torch.set_num_threads(1)
    backbone = random_backbone(RANDOM_TOWER, seed) if name == RANDOM_TOWER else load_backbone(name, "cpu")
    photos = load_data(data / "imagenette" / "val.parquet")
    detector = Detector.zero_shot(backbone, photos.class_names)
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)  # ROAD adds noise
    road = ROADCombined(ROAD_PERCENTILES)
    found: dict[str, list[tuple[float, float, float]]] = {}
    for i in tqdm(range(min(count, len(photos))), desc=name, mininterval=10):
        image = open_image(photos.read(i))
        view = view_image(backbone, image)
        targets = prompt_targets(ImagePrompts.of(detector, view))[:1]
        model = Cosine(backbone, targets[0].direction)
        pixels = backbone.preprocess(image)[None]
        curves = Curves(model, pixels)
        for method in (*fitting_methods(view), RANDOM):
            relevance = enlarge(
                one_map(method, view, targets, detector.positive, rng)[0], (pixels.shape[2], pixels.shape[3])
            )
            deletion, insertion = curves.areas(relevance)
            with torch.no_grad():
                filled = road(pixels, relevance[None].numpy(), [lambda value: value], model)
            found.setdefault(method, []).append((deletion, insertion, float(filled.item())))
    rows = []
    for method, values in found.items():
        deletion, insertion, filled = np.mean(values, axis=0).tolist()
        error = float(np.std([v[1] - v[0] for v in values], ddof=1) / len(values) ** 0.5)
        rows.append(
            {
                "backbone": backbone.name,
                "method": method,
                "images": len(values),
                "deletion": deletion,
                "insertion": insertion,
                "gain": insertion - deletion,
                "gain_standard_error": error,
                "road": filled,
            }
        )
    return sorted(rows, key=lambda row: -row["gain"])


# -- two things side by side -------------------------------------------------------------------------------------------


def beside(left: Image.Image, right: Image.Image, side: int = 224) -> Image.Image:
    """A square photo whose halves are the upright middles of two photos."""
    whole = Image.new("RGB", (side, side))
    for place, photo in enumerate((left, right)):
        scale = side / min(photo.height, 2 * photo.width)
        photo = photo.resize((max(side // 2, round(photo.width * scale)), max(side, round(photo.height * scale))))
        x, y = (photo.width - side // 2) // 2, (photo.height - side) // 2
        whole.paste(photo.crop((x, y, x + side // 2, y + side)), (place * side // 2, 0))
    return whole


def pairs(data: Path, count: int, seed: int) -> dict[str, list[tuple[Image.Image, str, str]]]:
    """Photos of two things, and what is left and right in them."""
    rng = np.random.default_rng(seed)
    nette = load_data(data / "imagenette" / "val.parquet")
    caltech = [load_data(data / "caltech101" / f"{name}.parquet") for name in ("train", "test")]
    dogs = images_of([nette], ["English Springer Spaniel"]) + images_of(caltech, ["dalmatian"])
    tiny = load_data(data / "tinyimagenet" / "val.parquet")
    cars = images_of(caltech, ["car side"]) + images_of([tiny], ["sports car", "convertible"])
    first = [(beside(dogs[i % len(dogs)], cars[i % len(cars)]), "dog", "car") for i in range(count)]
    by_class = [images_of([nette], [name]) for name in nette.class_names]
    second = []
    for _ in range(count):
        a, b = rng.choice(len(by_class), 2, replace=False)
        photos = by_class[a][rng.integers(len(by_class[a]))], by_class[b][rng.integers(len(by_class[b]))]
        second.append((beside(*photos), nette.class_names[a], nette.class_names[b]))
    return {"dog and car": first, "imagenette": second}


def images_of(sources: list[LabelledImages], names: list[str]) -> list[Image.Image]:
    return [
        open_image(chosen.read(i))
        for chosen in (source.select_classes(names) for source in sources)
        for i in range(len(chosen))
    ]


def sides(backbone: Backbone, data: Path, count: int, seed: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    rows = []
    for name, photos in pairs(data, count, seed).items():
        classes = list(dict.fromkeys(word for _, left, right in photos for word in (left, right)))
        detector = Detector.zero_shot(backbone, classes)
        shares: dict[str, list[float]] = {}
        for photo, *words in photos:
            view = view_image(backbone, photo)
            prompts = ImagePrompts.of(detector, view)
            targets = [prompt_targets(prompts, word)[0] for word in words]
            for method in (*fitting_methods(view), RANDOM):
                values = np.maximum(one_map(method, view, targets, detector.positive, rng), 0.0)
                for place, one in enumerate(values):
                    large = enlarge(one, (224, 224)).numpy()
                    half = large[:, 112:] if place else large[:, :112]
                    # An empty map points nowhere: half of nothing.
                    shares.setdefault(method, []).append(float(half.sum() / large.sum()) if large.sum() > 0 else 0.5)
        for method, values in shares.items():
            rows.append(
                {
                    "pairs": name,
                    "method": method,
                    "maps": len(values),
                    "share": float(np.mean(values)),
                    "above_half": float(np.mean(np.array(values) > 0.5)),
                }
            )
    return rows


# -- cost --------------------------------------------------------------------------------------------------------------


def cost(backbone: Backbone, image: Image.Image, repeats: int) -> list[dict[str, Any]]:
    """Seconds of a view and four maps, against a forward and backward pass, in turn; the median of the repeats."""
    generator = torch.Generator().manual_seed(0)
    targets = [
        Target(str(k), F.normalize(torch.randn(backbone.dim, generator=generator), dim=0), 0.0) for k in range(4)
    ]
    pixels = backbone.preprocess(image)[None]

    def tower() -> None:
        x = pixels.clone().requires_grad_()
        Cosine(backbone, targets[0].direction)(x).sum().backward()

    def ours(method: str) -> Callable[[], object]:
        return lambda: heat_maps(view_image(backbone, image), targets, method)

    ways: dict[str, Callable[[], object]] = {"tower": tower}
    ways |= {method: ours(method) for method in fitting_methods(view_image(backbone, image))}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, way in ways.items():
            begun = time.perf_counter()
            way()
            if turn:  # the first warms up
                seconds[name].append(time.perf_counter() - begun)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    return [
        {
            "backbone": backbone.name,
            "method": name,
            "seconds": median[name],
            "tower_seconds": median["tower"],
            "ratio": median[name] / median["tower"],
        }
        for name in ways
        if name != "tower"
    ]


def main() -> None:
    """Measures each part and writes results/heatmaps_PART.json and .csv and its table in this folder's README.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the image sets")
    parser.add_argument("--backbone", default="embedded")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parts", default="faithfulness,sides,cost")
    options = parser.parse_args()
    backbone = load_backbone(options.backbone, "cpu")
    results: dict[str, list[dict[str, Any]]] = {}
    parts = options.parts.split(",")
    if "faithfulness" in parts:
        with ProcessPoolExecutor(2, get_context("spawn")) as pool:
            runs = [
                pool.submit(faithfulness, name, options.data, options.images, options.seed)
                for name in (options.backbone, RANDOM_TOWER)
            ]
            results["faithfulness"] = [row for run in runs for row in run.result()]
    if "sides" in parts:
        results["sides"] = sides(backbone, options.data, options.pairs, options.seed)
    if "cost" in parts:
        image = open_image(load_data(options.data / "imagenette" / "val.parquet").read(0))
        towers = (backbone, random_backbone(COST_TOWER, options.seed))
        results["cost"] = [row for tower in towers for row in cost(tower, image, options.repeats)]
    for part in parts:
        print(part, table(results[part]), sep="\n")
        with open(RESULTS / f"heatmaps_{part}.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, results[part][0].keys())
            writer.writeheader()
            writer.writerows(results[part])
        write_results(f"heatmaps_{part}", {part: results[part], **environment(options.seed)})
        replace_section(PAGE, f"heatmaps-{part}", table(results[part]))


def table(rows: list[dict[str, Any]]) -> str:
    def cell(value: Any) -> str:
        return f"{value:.4f}" if isinstance(value, float) else f"**{value}**" if value == DEFAULT_METHOD else str(value)

    return markdown_table(list(rows[0]), [[cell(value) for value in row.values()] for row in rows])


if __name__ == "__main__":
    main()
