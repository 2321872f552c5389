"""Images to features in order and in bounded memory: decoded by several threads ahead of the image tower."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from lsn_core.data.collection import ImageCollection
from lsn_core.data.feature_cache import FeatureCache
from lsn_core.data.images import ImageLimits, ImageSource, open_image, pixel_count, printable, read_image_file
from lsn_core.data.sources import SourceLost
from lsn_core.errors import UserError

Key = TypeVar("Key")

_BATCH_PIXELS = 16_000_000  # Pillow takes 4 bytes for each, and as much as 2 for each row; one photo may have more
_LARGE_PIXELS = 8_000_000  # of a picture that is decoded while no other such one is
_AHEAD = 64  # images decoded or waiting for it
_AHEAD_BYTES = 64 * 2**20  # of their files, beside the first
_MOST_THREADS = 8


class ImageEncoder(Protocol):
    """The part of a backbone that features need."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever the model, its weights or its preprocessing do."""

    @property
    def dim(self) -> int:
        """Length D of a feature."""

    def encode_images(self, images: list[Image.Image]) -> Tensor:
        """RGB pictures of any size to float32 features of shape (N, D), L2-normalised."""


@runtime_checkable
class CropEncoder(Protocol):
    """A backbone whose pictures can be made ready by other threads while it encodes."""

    def expect(self, images: int) -> None:
        """Says that about so many images are to be encoded."""

    def crop(self, image: Image.Image) -> Tensor:
        """An RGB picture of any size, made ready: shape (H, W, 3), uint8."""

    def encode_crops(self, crops: Tensor) -> Tensor:
        """Crops (N, H, W, 3) to float32 features of shape (N, D), L2-normalised."""


@dataclass(frozen=True)
class Unopened:
    """An image that is yet to be decoded, or what kept it from being read.

    Attributes:
        source: what `open_image` takes, or the error.
        name: what to call it in messages; None for `open_image`'s own choice.
    """

    source: ImageSource | UserError
    name: str | None = None

    @property
    def held(self) -> int:
        """Bytes of its file that are in memory."""
        return len(self.source) if isinstance(self.source, bytes) else 0

    def open(self, limits: ImageLimits, on_warning: Callable[[str], object] | None = None) -> Image.Image:
        """An upright RGB picture. Raises UserError where there is none."""
        if isinstance(self.source, UserError):
            raise self.source
        told = {} if on_warning is None else {"on_warning": on_warning}
        return open_image(self.source, name=self.name, limits=limits, **told)


def unopened(images: Iterable[ImageSource] | ImageCollection) -> Iterator[Unopened]:
    """Images one after the other, each read when it is asked for.

    Args:
        images: paths, bytes or pictures, or a collection.
    """
    if isinstance(images, ImageCollection):
        for index in range(len(images)):
            yield _read(partial(images.read, index), images.names[index])
    else:
        for source in images:
            if isinstance(source, str | os.PathLike):
                name = printable(os.fspath(source))
                yield _read(partial(read_image_file, source, name), name)
            else:
                yield Unopened(source)


def _read(read: Callable[[], bytes], name: str) -> Unopened:
    try:
        return Unopened(read(), name)
    except SourceLost:
        raise
    except UserError as error:
        return Unopened(error, name)


def no_feature(name: str) -> UserError:
    """The error about an image whose row is no feature."""
    return UserError(
        f"{name}: the backbone gave a feature that is NaN, infinite or zero for this image. "
        "Leave the image out, or use full precision or another backbone."
    )


def is_feature(row: np.ndarray) -> bool:
    """Whether a row (D,) has unit length; one of NaN has not."""
    return abs(float(np.linalg.norm(row)) - 1) < 1e-3


@dataclass
class _Place:
    """An image's place in the line: where its row, or the error about it, will stand."""

    image: Unopened
    index: int
    key: bytes | None = None
    result: np.ndarray | UserError | None = None
    ready: Future[Tensor | UserError] | None = None  # the crop, made by another thread
    flying: bool = False  # with the backbone
    like: _Place | None = None  # an earlier one of the same bytes


class FeatureStream:
    """Features of images, each as soon as those before it have theirs.

    Args:
        backbone: turns pictures into features; one whose pictures can be cropped apart (`CropEncoder`) gets them from
            several threads.
        cache: features by content, taken from there and put there batch by batch.
        batch_size: most pictures given to the backbone at once, at least 1.
        limits: largest image accepted.
        on_warning: called with name and sentence about an image that is used although its file is not as it should be.
        on_picture: called with index and picture of each image that had to be decoded, perhaps by other threads.

    Attributes:
        encoded: how many images went through the backbone.
    """

    def __init__(
        self,
        backbone: ImageEncoder,
        cache: FeatureCache | None = None,
        batch_size: int = 32,
        limits: ImageLimits | None = None,
        on_warning: Callable[[str | None, str], object] | None = None,
        on_picture: Callable[[int, Image.Image], object] | None = None,
    ) -> None:
        self.encoded = 0
        self._backbone, self._cache, self._batch_size = backbone, cache, batch_size
        self._limits = limits or ImageLimits()
        self._on_warning, self._on_picture = on_warning, on_picture
        self._crops = backbone if isinstance(backbone, CropEncoder) else None
        self._most_passes = getattr(backbone, "passes", 1)
        self._passes: deque[tuple[list[_Place], Future[Tensor]]] = deque()  # batches that are with the backbone
        self._encoding: ThreadPoolExecutor | None = None
        self._large = threading.Lock()
        self._held = 0
        self._line: deque[_Place] = deque()
        self._known: dict[bytes, _Place] = {}  # those in line, by content

    def run(
        self, images: Iterable[Unopened], count: int | None = None
    ) -> Generator[tuple[int, np.ndarray | UserError], None, None]:
        """Each image's index and row (D,), float32, or the error about it, in order.

        Args:
            images: taken one by one, a bounded number ahead.
            count: how many there are about, where that is known.
        """
        if self._crops is not None and count is not None:
            self._crops.expect(count)
        with ExitStack() as closed:
            pool = None
            if self._crops is not None:
                if self._most_passes > 1:
                    self._encoding = closed.enter_context(ThreadPoolExecutor(self._most_passes, "encoding"))
                pool = closed.enter_context(ThreadPoolExecutor(_threads(), "decoding"))
            try:
                for index, image in enumerate(images):
                    self._enter(_Place(image, index), pool)
                    while self._line and self._is_full():
                        yield from self._advance()
                while self._line:
                    yield from self._advance()
            finally:
                for place in self._line:
                    if place.ready is not None:
                        place.ready.cancel()

    def _enter(self, place: _Place, pool: ThreadPoolExecutor | None) -> None:
        """Puts an image into the line, with its result where that is known already."""
        self._line.append(place)
        self._held += place.image.held
        if isinstance(place.image.source, UserError):
            place.result = place.image.source
            return
        if isinstance(place.image.source, bytes):
            place.key = hashlib.sha256(place.image.source).digest()
            place.like = self._known.get(place.key)
            if place.like is not None:
                return
            place.result = self._cache.get(place.key) if self._cache is not None else None
            if place.result is not None:
                return
            self._known[place.key] = place
        if pool is not None:
            place.ready = pool.submit(self._make_ready, place)

    def _is_full(self) -> bool:
        """Whether enough images wait; one that is known already waits for nothing."""
        most = self._most_passes * self._batch_size + (_AHEAD if self._crops is not None else 0)
        return self._line[0].result is not None or len(self._line) >= most or self._held >= _AHEAD_BYTES

    def _advance(self) -> Iterator[tuple[int, np.ndarray | UserError]]:
        """Encodes the next batch, and gives the results that stand at the head of the line."""
        if self._line[0].result is None:
            batch = list(islice((place for place in self._line if self._is_open(place)), self._batch_size))
            if batch:
                self._encode(batch)
            while (
                self._passes and self._line[0].result is None and (len(self._passes) >= self._most_passes or not batch)
            ):
                places, found = self._passes.popleft()
                self._take(places, found.result())
        while self._line and (result := self._result(self._line[0])) is not None:
            place = self._line.popleft()
            self._held -= place.image.held
            if place.key is not None and self._known.get(place.key) is place:
                del self._known[place.key]
            yield place.index, result

    @staticmethod
    def _is_open(place: _Place) -> bool:
        return place.result is None and place.like is None and not place.flying

    def _result(self, place: _Place) -> np.ndarray | UserError | None:
        if place.like is None:
            return place.result
        result = place.like.result
        if not isinstance(result, UserError):
            return result
        try:  # the sentence of its own, as it names the image
            place.image.open(self._limits)
        except UserError as error:
            return error
        return no_feature(place.image.name or "the image")

    def _encode(self, batch: list[_Place]) -> None:
        made = [(place, place.ready.result()) for place in batch if place.ready is not None]
        if self._crops is not None:
            good = [(place, crop) for place, crop in made if not isinstance(crop, UserError)]
            for place, found in made:
                if isinstance(found, UserError):
                    place.result = found
            if good:
                self._pass([place for place, _ in good], [crop for _, crop in good])
            return
        for pictures in picture_batches(self._opened(batch), self._batch_size):
            self._take([place for place, _ in pictures], self._backbone.encode_images([x for _, x in pictures]))
            pictures.clear()  # before the next picture is decoded

    def _pass(self, places: list[_Place], crops: list[Tensor]) -> None:
        """Gives a batch to the backbone, and waits for it unless the backbone takes several at once."""
        encode = self._crops.encode_crops  # type: ignore[union-attr]
        if self._encoding is None:
            self._take(places, encode(torch.stack(crops)))
            return
        for place in places:
            place.flying = True
        self._passes.append((places, self._encoding.submit(lambda: encode(torch.stack(crops)))))

    def _opened(self, batch: list[_Place]) -> Iterator[tuple[_Place, Image.Image]]:
        for place in batch:
            try:
                picture = self._open(place)
            except UserError as error:
                place.result = error
            else:
                yield place, picture
                del picture  # the batch has it

    def _make_ready(self, place: _Place) -> Tensor | UserError:
        """The crop of an image, or the error about it; in a thread of its own."""
        assert self._crops is not None
        source = place.image.source
        try:
            with self._large if isinstance(source, bytes) and pixel_count(source) > _LARGE_PIXELS else nullcontext():
                return self._crops.crop(self._open(place))
        except UserError as error:
            return error

    def _open(self, place: _Place) -> Image.Image:
        on_warning, name = self._on_warning, place.image.name
        picture = place.image.open(self._limits, None if on_warning is None else lambda told: on_warning(name, told))
        if self._on_picture is not None:
            self._on_picture(place.index, picture)
        return picture

    def _take(self, places: list[_Place], features: Tensor) -> None:
        if tuple(features.shape) != (len(places), self._backbone.dim):
            shape = tuple(features.shape)
            raise RuntimeError(f"the backbone gave shape {shape}, not {(len(places), self._backbone.dim)}")
        rows = F.normalize(features.detach().float(), dim=1, eps=1e-30).cpu().numpy()
        fresh = {}
        for place, row in zip(places, rows, strict=True):
            if not is_feature(row):
                place.result = no_feature(place.image.name or "the image")
                continue
            place.result = row
            if place.key is not None:
                fresh[place.key] = row
        self.encoded += len(places)
        if self._cache is not None:
            self._cache.put(fresh)  # before anybody is told, as whoever hears it may end the run


def picture_batches(pictures: Iterable[tuple[Key, Image.Image]], most: int) -> Iterator[list[tuple[Key, Image.Image]]]:
    """Groups decoded pictures for a backbone, bounded by their pixels too, so that large photos do not fill the memory.

    Args:
        pictures: in any order, each with what it is told apart by; the next is taken when it is needed.
        most: pictures in a batch, at least 1.

    Returns:
        Batches of 1 to `most` pictures, in order. A batch ends with the picture that brings it to 16 million pixels.
    """
    batch: list[tuple[Key, Image.Image]] = []
    pixels = 0
    for key, picture in pictures:
        batch.append((key, picture))
        pixels += (picture.width + 2) * picture.height
        del picture
        if len(batch) >= most or pixels >= _BATCH_PIXELS:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch


def _threads() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(_MOST_THREADS, cores)
