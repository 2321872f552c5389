"""Image features, computed once in batches and cached on disk by content hash."""

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, Protocol, TypeVar

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from lsn_core.data.collection import ImageCollection
from lsn_core.data.feature_cache import DiskFeatureCache, FeatureCache
from lsn_core.data.images import ImageLimits, open_image
from lsn_core.errors import UserError

logger = logging.getLogger(__name__)

Key = TypeVar("Key")

_BATCH_PIXELS = 16_000_000  # Pillow takes 4 bytes for each, and as much as 2 for each row; one photo may have more
_DEFAULT_LIMITS = ImageLimits()


class ImageEncoder(Protocol):
    """The part of a backbone that features need."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever the model, its weights or its preprocessing do."""

    @property
    def dim(self) -> int:
        """Length D of a feature."""

    def encode_images(self, images: list[Image.Image]) -> torch.Tensor:
        """RGB pictures of any size to float32 features of shape (N, D), L2-normalised."""


@dataclass(frozen=True)
class FeatureSet:
    """Features of the images that could be read.

    Attributes:
        features: float32, shape (M, D), L2-normalised, on the CPU.
        kept: int64, shape (M,), increasing: which image each row belongs to.
        errors: name and message of each of the N - M images left out.
        left_out: int64, shape (N - M,), increasing: which image each error is about.
        warnings: name and message of each image that is used although its file is not as it should be.
    """

    features: torch.Tensor
    kept: np.ndarray
    errors: list[tuple[str, str]] = field(default_factory=list)
    left_out: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    warnings: list[tuple[str, str]] = field(default_factory=list)


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


def extract_features(
    backbone: ImageEncoder,
    data: ImageCollection,
    *,
    cache: Path | FeatureCache | None = None,
    batch_size: int = 64,
    progress: bool | Callable[[int, int], None] = True,
    on_error: Literal["raise", "skip"] = "raise",
    limits: ImageLimits = _DEFAULT_LIMITS,
    on_picture: Callable[[int, Image.Image], object] | None = None,
) -> FeatureSet:
    """Encode every image, taking from the cache what was encoded before.

    A feature is found again by the SHA-256 of the image's bytes and the backbone's fingerprint, so an edited image or
    another backbone never meets a stale entry, and equal images are encoded once. What a call has encoded is kept batch
    by batch, even when the call is cut short. A cache that is damaged, locked or read-only costs time, not the result.

    Args:
        backbone: turns pictures into features.
        data: N images.
        cache: folder of a cache on disk, made when missing, which several processes may share; or a cache in hand, of
            this backbone's features. None for no cache.
        batch_size: most pictures given to the backbone at once, at least 1.
        progress: True for a tqdm bar, False for silence, or a function called with (images done, N).
        on_error: "raise" stops at the first unusable image, "skip" leaves it out and lists it in `errors`.
        limits: largest image accepted.
        on_picture: called with index and picture of each image that had to be decoded.

    Raises:
        UserError: an image cannot be read or has a feature that is NaN, infinite or zero (`on_error="raise"`), or an
            argument is out of range. The message names the image.

    Examples:
        >>> import shutil, tempfile
        >>> from pathlib import Path
        >>> from lsn_core import extract_features, load_backbone, load_data
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = shutil.copytree("assets/examples", folder / "animals", ignore=shutil.ignore_patterns("*.csv"))
        >>> extract_features(load_backbone("embedded", "cpu"), load_data(folder), progress=False).features.shape[0]
        16
    """
    if batch_size < 1:
        raise UserError(f"The batch size must be at least 1, not {batch_size}.")
    if on_error not in ("raise", "skip"):
        raise UserError(f'on_error must be "raise" or "skip", not {on_error!r}.')
    with ExitStack() as closed:
        if isinstance(cache, str | os.PathLike):
            cache = closed.enter_context(closing(DiskFeatureCache(Path(cache), backbone.fingerprint, backbone.dim)))
        bar = closed.enter_context(closing(_Progress(progress, len(data))))
        run = _Extraction(backbone, data, cache, bar, on_error == "skip", on_picture)
        for batch in picture_batches(run.pictures(limits), batch_size):
            run.encode(batch)
            batch.clear()  # before the next picture is decoded
    kept = np.array(sorted(run.rows), dtype=np.int64)
    rows = [run.rows[index] for index in kept.tolist()]
    features = torch.from_numpy(np.stack(rows)) if rows else torch.zeros(0, backbone.dim)
    left_out = np.array(sorted(run.errors), dtype=np.int64)
    errors = [(data.names[index], run.errors[index]) for index in left_out.tolist()]
    logger.info("%d features: %d encoded, %d images left out.", len(kept), run.encoded, len(errors))
    if run.warnings:
        logger.warning("%d of %d images are used with a warning.", len(run.warnings), len(data))
    return FeatureSet(features, kept, errors, left_out, run.warnings)


def is_feature(row: np.ndarray) -> bool:
    """Whether a row (D,) has unit length; one of NaN has not."""
    return abs(float(np.linalg.norm(row)) - 1) < 1e-3


def no_feature(name: str) -> UserError:
    """The error about an image whose row is no feature."""
    return UserError(
        f"{name}: the backbone gave a feature that is NaN, infinite or zero for this image. "
        "Leave the image out, or use full precision or another backbone."
    )


class _Extraction:
    def __init__(
        self,
        backbone: ImageEncoder,
        data: ImageCollection,
        cache: FeatureCache | None,
        bar: "_Progress",
        skip: bool,
        on_picture: Callable[[int, Image.Image], object] | None,
    ) -> None:
        self.backbone, self.data, self.cache, self.bar, self.skip = backbone, data, cache, bar, skip
        self.on_picture = on_picture
        self.rows: dict[int, np.ndarray] = {}
        self.errors: dict[int, str] = {}
        self.waiting: dict[bytes, list[int]] = {}  # by content, so that equal images wait together
        self.encoded = 0
        self.warnings: list[tuple[str, str]] = []

    def pictures(self, limits: ImageLimits) -> Iterator[tuple[bytes, Image.Image]]:
        """Hash and picture of each image that has to be encoded."""
        for index in range(len(self.data)):
            name = self.data.names[index]
            try:
                data = self.data.read(index)
                key = hashlib.sha256(data).digest()
                if key in self.waiting:
                    self.waiting[key].append(index)
                    continue
                row = self.cache.get(key) if self.cache is not None else None
                if row is not None:
                    self._keep([index], row)
                    continue
                image = open_image(data, name=name, limits=limits, on_warning=partial(self._warn, name))
                del data
                if self.on_picture is not None:
                    self.on_picture(index, image)
            except UserError as error:
                self._refuse([index], error)
                continue
            self.waiting[key] = [index]
            yield key, image
            del image  # the batch has it

    def encode(self, batch: list[tuple[bytes, Image.Image]]) -> None:
        features = self.backbone.encode_images([image for _, image in batch])
        if tuple(features.shape) != (len(batch), self.backbone.dim):
            shape = tuple(features.shape)
            raise RuntimeError(f"the backbone gave shape {shape}, not {(len(batch), self.backbone.dim)}")
        features = torch.nn.functional.normalize(features.detach().float(), dim=1, eps=1e-30).cpu()
        rows = {key: row for (key, _), row in zip(batch, features.numpy(), strict=True)}
        fresh = {key: row for key, row in rows.items() if is_feature(row)}
        self.encoded += len(fresh)
        if self.cache is not None:
            self.cache.put(fresh)  # before the progress is told, as whoever hears it may end the run
        for key in rows:
            indices = self.waiting.pop(key)
            if key in fresh:
                self._keep(indices, fresh[key])
            else:
                self._refuse(indices, None)

    def _warn(self, name: str, sentence: str) -> None:
        logger.warning("%s", sentence)
        self.warnings.append((name, sentence))

    def _keep(self, indices: list[int], row: np.ndarray) -> None:
        self.rows.update(dict.fromkeys(indices, row))
        self.bar.advance(len(indices))

    def _refuse(self, indices: list[int], error: UserError | None) -> None:
        for index in indices:
            name = self.data.names[index]
            reason = error or no_feature(name)
            if not self.skip:
                raise reason
            logger.warning("Left out: %s", reason)
            self.errors[index] = str(reason)
        self.bar.advance(len(indices))


class _Progress:
    def __init__(self, progress: bool | Callable[[int, int], None], total: int) -> None:
        self._call = progress if callable(progress) else None
        self._bar = tqdm(total=total, desc="image features", unit="image", disable=progress is not True)
        self._done, self._total = 0, total

    def advance(self, images: int) -> None:
        self._done += images
        self._bar.update(images)
        if self._call is not None:
            self._call(self._done, self._total)

    def close(self) -> None:
        self._bar.close()
