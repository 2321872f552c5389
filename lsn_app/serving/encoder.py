"""A backbone that encodes each photo and each text once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lsn_app.serving import accelerator
from lsn_app.serving.joined import JoinedPasses
from lsn_app.serving.lru import _VIEWS, LRU
from lsn_app.serving.photos import Photo, read_file
from lsn_core import Backbone, Detector
from lsn_core.backbones.image_tower import View, view_image
from lsn_core.data.collection import ImageCollection
from lsn_core.data.feature_stream import is_feature, no_feature
from lsn_core.data.features import FeatureSet, extract_features
from lsn_core.data.images import open_image
from lsn_core.detector.prompts import FixedPrompts
from lsn_core.heatmaps.maps import HeatMaps, explain
from lsn_core.heatmaps.methods import fitting_methods

AT_ONCE = 4
"""Requests that mostly wait for the image encoder and may run at once, so that it can take them together."""

_BATCH = 32
_DECODING = 2  # photos at once: each may take 400 MB until it has the size that the model sees
_KEPT_PIXELS = 4_000_000  # of a picture that is kept beside its view, 4 bytes each; larger ones are opened anew


class _PhotoFeatures:
    """One backbone's part of the features that all backbones keep together, as a `FeatureCache`."""

    def __init__(self, photos: LRU, backbone: Backbone) -> None:
        self._photos, self._backbone = photos, backbone

    def get(self, key: bytes) -> np.ndarray | None:
        return self._photos.get((self._backbone.fingerprint, key))

    def put(self, rows: Mapping[bytes, np.ndarray]) -> None:
        for key, row in rows.items():
            self._photos.put((self._backbone.fingerprint, key), row)


class Encoder:
    """A backbone that encodes each photo and each text once; everything else is the backbone's own."""

    def __init__(self, backbone: Backbone, photos: LRU, texts: LRU) -> None:
        self.backbone = backbone
        self._features, self._texts = _PhotoFeatures(photos, backbone), texts
        self._views = LRU(_VIEWS)
        self._lock = threading.Lock()  # one forward pass at a time: two would only halve each other's speed
        self._joined = JoinedPasses(self._encode_crops, self._lock)
        self._decoding = threading.Semaphore(_DECODING)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backbone, name)

    def encode_images(self, images: Sequence[Image.Image]) -> Tensor:
        """Features of pictures, shape (N, D)."""
        return self.encode_crops(torch.stack([self.crop(image) for image in images]))

    def crop(self, image: Image.Image) -> Tensor:
        """`Backbone.crop`."""
        return self.backbone.crop(image)

    def expect(self, images: int) -> None:
        """`Backbone.expect`, but nobody waits for a tower to be converted: that is done beside the answers."""
        if self.backbone.runtime.is_converted:
            self.backbone.expect(images)

    def encode_crops(self, crops: Tensor) -> Tensor:
        """Features of cropped pictures, shape (N, D)."""
        with self._lock:
            return self._encode_crops(crops)

    def _encode_crops(self, crops: Tensor) -> Tensor:
        return accelerator.run(self.backbone.encode_crops, crops)

    def __reduce__(self) -> Any:
        return accelerator.by_name(self.backbone)  # what a call on another device needs of it

    @property
    def fingerprint(self) -> str:
        """Of the backbone, see `Backbone.fingerprint`."""
        return self.backbone.fingerprint

    @property
    def dim(self) -> int:
        """D, the size of a feature."""
        return self.backbone.dim

    def encode_photo(self, photo: Photo) -> Tensor:
        """Feature of a photo, shape (1, D); photos that wait for it together are encoded together.

        Raises:
            UserError: the photo cannot be read, or has no feature.
        """
        key = bytes.fromhex(photo.sha256)
        row = self._features.get(key)
        if row is None:
            with self._decoding:
                crop = self.backbone.crop(open_image(read_file(photo.path, photo.name), name=photo.name))
            row = self._joined(crop).numpy()
            if not is_feature(row):
                raise no_feature(photo.name)
            self._features.put({key: row})
        return torch.from_numpy(row)[None]

    def encode_all(
        self,
        images: ImageCollection,
        progress: Callable[[int, int], None] | None = None,
        on_picture: Callable[[int, Image.Image], object] | None = None,
    ) -> FeatureSet:
        """Features of many photos; those not met before go in batches, and those that cannot be read are left out.

        Args:
            progress: called with (photos done, photos in all).
            on_picture: called with index and picture of each photo that had to be decoded.
        """
        return extract_features(
            self,
            images,
            cache=self._features,
            batch_size=_BATCH,
            progress=progress or False,
            on_error="skip",
            on_picture=on_picture,
        )

    def view_image(self, photo: Photo) -> tuple[View, Image.Image]:
        """What heat maps of a photo need, and the photo. Raises ImageError for one that cannot be read."""
        view, picture = self._views.get(photo.sha256) or (None, None)
        if picture is None:
            picture = open_image(photo.path, name=photo.name)
        if view is None:
            with self._lock:
                view = view_image(self.backbone, picture)
            kept = picture if picture.width * picture.height <= _KEPT_PIXELS else None
            self._views.put(photo.sha256, (view, kept))
        return view, picture

    @cached_property
    def heat_map_methods(self) -> list[str]:
        """Names of the heat-map methods that work on this image tower."""
        with self._lock:
            return accelerator.run(_methods_for, self.backbone)

    def explain(
        self, detector: Detector, photo: Photo, class_name: str | None, method: str, target: str
    ) -> tuple[HeatMaps, Image.Image]:
        """`heatmaps.explain` of a photo, and the photo. Raises UserError as that and `view_image` do."""
        if accelerator.ZERO_GPU and isinstance(detector.prompts, FixedPrompts):  # others hold the model
            picture = open_image(photo.path, name=photo.name)
            with self._lock:
                return accelerator.run(_view_and_explain, detector, picture, class_name, method, target), picture
        view, picture = self.view_image(photo)
        return explain(detector, view, class_name, method, target), picture

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Features of texts, shape (N, D); only those not met before go through the text tower."""
        known = {text: self._texts.get((self.backbone.fingerprint, text)) for text in texts}
        missing = [text for text, feature in known.items() if feature is None]
        if missing:
            with self._lock:
                features = accelerator.run(self.backbone.encode_texts, missing)
            for text, feature in zip(missing, features, strict=True):
                known[text] = feature
                self._texts.put((self.backbone.fingerprint, text), feature)
        return torch.stack([known[text] for text in texts])

    def zero_shot(self, class_names: Sequence[str]) -> Detector:
        """`Detector.zero_shot` with the texts taken from the cache."""
        return Detector.zero_shot(cast(Backbone, self), class_names)


def _methods_for(backbone: Backbone) -> list[str]:
    return fitting_methods(view_image(backbone, Image.new("RGB", (32, 32))))


def _view_and_explain(detector: Detector, picture: Image.Image, *about: Any) -> HeatMaps:
    return explain(detector, view_image(detector.backbone, picture), *about)
