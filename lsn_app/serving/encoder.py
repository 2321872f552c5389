"""A backbone that encodes each photo and each text once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from PIL import Image
from torch import Tensor

from lsn_app.serving import accelerator
from lsn_app.serving.lru import _VIEWS, LRU
from lsn_app.serving.photos import Item, Photo
from lsn_core import Backbone, Detector, UserError
from lsn_core.backbones.image_tower import View, view_image
from lsn_core.data.images import open_image
from lsn_core.detector.prompts import FixedPrompts
from lsn_core.heatmaps.maps import HeatMaps, explain

_BATCH, _BATCH_PIXELS = 32, 50_000_000  # what is decoded at a time: about 0.2 GB, however large the photos are


class Encoder:
    """A backbone that encodes each photo and each text once; everything else is the backbone's own."""

    def __init__(self, backbone: Backbone, photos: LRU, texts: LRU) -> None:
        self.backbone = backbone
        self._photos, self._texts = photos, texts
        self._views = LRU(_VIEWS)
        self._lock = threading.Lock()  # one forward pass at a time: two would only halve each other's speed

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backbone, name)

    def encode_images(self, images: Sequence[Image.Image]) -> Tensor:
        """Features of pictures, shape (N, D), one batch at a time."""
        with self._lock:
            return accelerator.run(self.backbone.encode_images, images)

    def __reduce__(self) -> Any:
        return accelerator.by_name(self.backbone)  # what a call on another device needs of it

    def encode_photo(self, photo: Photo) -> Tensor:
        """Feature of a photo, shape (1, D). Raises ImageError for one that cannot be read."""
        key = (self.backbone.fingerprint, photo.sha256)
        feature = self._photos.get(key)
        if feature is None:
            feature = self.encode_images([open_image(photo.path, name=photo.name)])
            self._photos.put(key, feature)
        return feature

    def encode_many(
        self,
        items: Sequence[Item],
        on_done: Callable[[int], object] = lambda count: None,
        on_picture: Callable[[int, Image.Image], object] = lambda place, picture: None,
    ) -> list[Tensor | UserError]:
        """Features of many photos, each of shape (1, D), or why there is none; those not met before go in batches.

        Args:
            on_done: called with the number of photos done since it was called last.
            on_picture: called with place and picture of each photo that had to be decoded.
        """
        found: list[Any] = [None] * len(items)
        waiting: dict[str, tuple[Image.Image, list[int]]] = {}  # by content, so that equal photos wait together

        def encode() -> None:
            features = self.encode_images([picture for picture, _ in waiting.values()])
            for (sha256, (_, places)), feature in zip(waiting.items(), features.split(1), strict=True):
                self._photos.put((self.backbone.fingerprint, sha256), feature)
                for place in places:
                    found[place] = feature
            on_done(sum(len(places) for _, places in waiting.values()))
            waiting.clear()

        for place, item in enumerate(items):
            try:
                found[place] = self._photos.get((self.backbone.fingerprint, item.sha256))
                if found[place] is not None:
                    on_done(1)
                elif item.sha256 in waiting:
                    waiting[item.sha256][1].append(place)
                else:
                    picture = open_image(item.read(), name=item.name)
                    on_picture(place, picture)
                    waiting[item.sha256] = picture, [place]
            except UserError as error:
                found[place] = error
                on_done(1)
            if len(waiting) == _BATCH or sum(p.width * p.height for p, _ in waiting.values()) > _BATCH_PIXELS:
                encode()
        if waiting:
            encode()
        return found

    def view_image(self, photo: Photo) -> tuple[View, Image.Image]:
        """What heat maps of a photo need, and the photo. Raises ImageError for one that cannot be read."""
        found = self._views.get(photo.sha256)
        if found is None:
            picture = open_image(photo.path, name=photo.name)
            with self._lock:
                found = view_image(self.backbone, picture), picture
            self._views.put(photo.sha256, found)
        return found

    def explain(
        self, detector: Detector, photo: Photo, class_name: str | None, method: str, target: str
    ) -> tuple[HeatMaps, Image.Image]:
        """`heatmaps.explain` of a photo, and the photo. Raises UserError as that and `view_image` do."""
        if accelerator.LENT and isinstance(detector.prompts, FixedPrompts):  # others hold the model
            picture = open_image(photo.path, name=photo.name)
            with self._lock:
                return accelerator.run(_view_and_explain, detector, picture, class_name, method, target), picture
        view, picture = self.view_image(photo)
        return explain(detector, view, class_name, method, target), picture

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Features of texts, shape (N, D); only those not met before go through the text tower."""
        found = {text: self._texts.get((self.backbone.fingerprint, text)) for text in texts}
        missing = [text for text, feature in found.items() if feature is None]
        if missing:
            with self._lock:
                features = accelerator.run(self.backbone.encode_texts, missing)
            for text, feature in zip(missing, features, strict=True):
                found[text] = feature
                self._texts.put((self.backbone.fingerprint, text), feature)
        return torch.stack([found[text] for text in texts])

    def zero_shot(self, class_names: Sequence[str]) -> Detector:
        """`Detector.zero_shot` with the texts taken from the cache."""
        return Detector.zero_shot(cast(Backbone, self), class_names)


def _view_and_explain(detector: Detector, picture: Image.Image, *about: Any) -> HeatMaps:
    return explain(detector, view_image(detector.backbone, picture), *about)
