"""From labelled images to a trained detector: draw the shots, encode them, learn the prompts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lsn_core.backbones.backbone import Backbone
from lsn_core.data.feature_cache import FeatureCache
from lsn_core.data.features import extract_features
from lsn_core.data.labelled import LabelledImages
from lsn_core.data.sampling import few_shot
from lsn_core.detector.detector import Detector
from lsn_core.training.config import TrainConfig
from lsn_core.training.loop import CHECKPOINT_SECONDS, Callback, train
from lsn_core.training.shards import Shards


@dataclass(frozen=True)
class EncodedShots:
    """The images that a run learns from and is calibrated with, as features.

    Attributes:
        features: float32, shape (N, D), unit length.
        labels: class indices, int64, shape (N,).
        class_names: the C classes.
        left_out: name and reason of each drawn image that could not be used.
    """

    features: Tensor
    labels: np.ndarray
    class_names: tuple[str, ...]
    left_out: list[tuple[str, str]]


def encode_shots(
    images: LabelledImages,
    backbone: Backbone,
    config: TrainConfig,
    *,
    cache: Path | FeatureCache | None = None,
    batch_size: int = 64,
    progress: bool | Callable[[int, int], None] = True,
    shards: Shards | None = None,
) -> EncodedShots:
    """Draws `config.shots` images of each class by `config.seed` and encodes only those. Classes without images go.

    Args:
        cache, batch_size, progress: as for `extract_features`.
        shards: processes that each encode a part, and all get the whole; None for this one alone.

    Raises:
        UserError: a setting is out of range.
    """
    images = images.without_empty_classes()
    drawn = images.subset(few_shot(images, config.shots, config.seed))
    shards = shards or Shards()
    own = drawn if shards.alone else drawn.subset(np.arange(len(drawn))[shards.rank :: shards.world])
    encoded = extract_features(backbone, own, cache=cache, batch_size=batch_size, progress=progress, on_error="skip")
    if shards.alone:
        return EncodedShots(encoded.features, drawn.labels[encoded.kept], drawn.class_names, encoded.errors)
    parts = shards.collect((encoded.features, np.asarray(encoded.kept, dtype=np.int64), encoded.errors))
    kept = np.concatenate([rank + shards.world * part[1] for rank, part in enumerate(parts)])
    order = np.argsort(kept)  # as one process would have them
    features = torch.cat([part[0] for part in parts])[torch.from_numpy(order)]
    errors = [error for part in parts for error in part[2]]
    return EncodedShots(features, drawn.labels[kept[order]], drawn.class_names, errors)


def train_from_images(
    images: LabelledImages | EncodedShots,
    backbone: Backbone,
    config: TrainConfig,
    *,
    cache: Path | FeatureCache | None = None,
    progress: bool | Callable[[int, int], None] = True,
    callback: Callback | None = None,
    checkpoint_dir: Path | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    shards: Shards | None = None,
) -> Detector:
    """What the command `train`, a job and the benchmarks do: `encode_shots`, then `train`.

    Args:
        images: labelled images of the C classes; or the shots, where they are encoded already.
        cache, progress: as for `extract_features`.
        callback, checkpoint_dir, checkpoint_seconds, shards: as for `train`. A checkpoint belongs to the very features
            that it was trained on, so whoever resumes a run gives the same images, or keeps their `EncodedShots`.

    Returns:
        The trained detector; its metrics count the drawn images that were `left_out`.

    Raises:
        UserError: as `encode_shots` and `train` do.
        TrainingStopped: the callback returned True.
    """
    shots = images
    if isinstance(shots, LabelledImages):
        shots = encode_shots(shots, backbone, config, cache=cache, progress=progress, shards=shards)
    detector = train(
        shots.features,
        shots.labels,
        shots.class_names,
        backbone,
        config,
        callback=callback,
        checkpoint_dir=checkpoint_dir,
        checkpoint_seconds=checkpoint_seconds,
        shards=shards,
    )
    detector.metrics["left_out"] = len(shots.left_out)
    return detector
