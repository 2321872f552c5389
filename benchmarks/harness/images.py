"""Images as the backbone sees them, with every kind of feature that methods ask for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from filelock import FileLock
from PIL import Image
from torch import Tensor

from lsn_core import Detector, UserError
from lsn_core.backbones.backbone import Backbone
from lsn_core.backbones.image_tower import view_image
from lsn_core.data.features import extract_features
from lsn_core.data.labelled import LabelledImages
from lsn_core.scores.registry import ScoreInputs

Scorer = Callable[["Images"], Tensor]
"""Scores images, shape (N,); higher = more in-distribution."""


class Images:
    """Images as the backbone sees them, each kind of feature computed when it is first asked for, and cached on disk.

    Args:
        progress: of the encoding, as for `extract_features`.

    Attributes:
        labels: class indices, int64, shape (N,).
    """

    def __init__(
        self,
        backbone: Backbone,
        data: LabelledImages,
        cache: Path,
        progress: bool | Callable[[int, int], None] = False,
    ) -> None:
        self.backbone, self.data, self.cache, self.progress = backbone, data, cache, progress
        self._whole: tuple[Images, slice] | None = None
        self.labels = torch.from_numpy(data.labels)
        self._samples: dict[int, Images] = {}
        self._inputs: dict[int, tuple[Detector, ScoreInputs]] = {}

    def __len__(self) -> int:
        return len(self.data)

    def sample(self, most: int) -> Images:
        """At most so many of the images, evenly spaced in their order."""
        if len(self) <= most:
            return self
        if most not in self._samples:
            chosen = np.linspace(0, len(self) - 1, most).round().astype(int)
            self._samples[most] = Images(self.backbone, self.data.subset(chosen), self.cache, self.progress)
        return self._samples[most]

    def chunks(self, size: int) -> Iterator[Images]:
        """The images in order, at most `size` at a time, so that what is computed of them fits in memory."""
        for start in range(0, len(self), size):
            place = slice(start, min(start + size, len(self)))
            part = Images(self.backbone, self.data.subset(range(place.start, place.stop)), self.cache)
            part._whole = self, place
            yield part

    @cached_property
    def embedding(self) -> Tensor:
        """Image features in the space of the texts, shape (N, D), unit length."""
        if self._whole is not None:
            return self._whole[0].embedding[self._whole[1]]
        names = hashlib.sha256("\0".join(self.data.names).encode("utf-8", "backslashreplace")).hexdigest()[:16]
        self.cache.mkdir(parents=True, exist_ok=True)
        with FileLock(self.cache / f"{names}.lock"):  # several workers of a cluster begin with the same images
            return extract_features(self.backbone, self.data, cache=self.cache, progress=self.progress).features

    @cached_property
    def penultimate(self) -> Tensor:
        """Image features before the projection to the space of the texts, shape (N, P), not normalised.

        The embedding, where the tower does not keep the two apart.
        """
        if self._whole is not None:
            return self._whole[0].penultimate[self._whole[1]]
        try:
            encoder = _Penultimate(self.backbone)
        except UserError:
            return self.embedding
        rows = extract_features(encoder, self.data, cache=self.cache, progress=self.progress).features
        return rows[:, :-1] / rows[:, -1:]

    @cached_property
    def local(self) -> Tensor:
        """Features of each place of the image, shape (N, places, D), unit length."""
        rows = extract_features(
            _Local(self.backbone), self.data, cache=self.cache, batch_size=8, progress=False
        ).features
        return F.normalize(rows.unflatten(1, (-1, self.backbone.dim)), dim=-1)

    def inputs(self, detector: Detector) -> ScoreInputs:
        """`Detector.inputs`, remembered: with CoCoOp each image costs runs of the text tower."""
        if id(detector) not in self._inputs:
            self._inputs[id(detector)] = detector, detector.inputs(self.embedding)
        return self._inputs[id(detector)][1]

    def cosines(self, detector: Detector) -> tuple[Tensor, Tensor]:
        """Cosines to the detector's positive and negative prompts, remembered as well."""
        inputs = self.inputs(detector)
        return inputs.positive, inputs.negative


class _Penultimate:
    """Penultimate features as an `ImageEncoder`; a last coordinate of 1 keeps their length when rows are normalised."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone, self.fingerprint = backbone, f"{backbone.fingerprint}:penultimate"
        self.dim = self.encode_images([Image.new("RGB", (224, 224))]).shape[1]

    def encode_images(self, images: list[Image.Image]) -> Tensor:
        features = self.backbone.encode_images_before_projection(images).cpu()
        return torch.cat([features, torch.ones(len(features), 1)], dim=1)


class _Local:
    """Features of all places of an image, one after the other, as an `ImageEncoder`."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone, self.fingerprint = backbone, f"{backbone.fingerprint}:local"

    @cached_property
    def dim(self) -> int:
        return self.encode_images([Image.new("RGB", (224, 224))]).shape[1]

    def encode_images(self, images: list[Image.Image]) -> Tensor:
        rows = []
        for image in images:
            places = view_image(self.backbone, image).patch_features
            if places is None:
                raise ValueError(f"the image tower of {self.backbone.name} has no features of single places")
            rows.append(F.normalize(places.flatten(0, 1), dim=-1).flatten().cpu())
        return torch.stack(rows)
