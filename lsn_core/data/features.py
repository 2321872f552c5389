"""Image features, computed once in batches and cached on disk by content hash."""

import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from lsn_core.data.feature_cache import DiskFeatureCache, FeatureCache
from lsn_core.data.images import ImageLimits, open_image
from lsn_core.errors import UserError

logger = logging.getLogger(__name__)


_BATCH_PIXELS = 100_000_000  # at most this much is decoded at a time (about 0.4 GB), however large the photos are
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


class ImageCollection(Protocol):
    """Encoded images that can be read one by one; `LabelledImages` is one."""

    @property
    def names(self) -> Sequence[str]:
        """What to call each image, shape (N,)."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> bytes:
        """Encoded bytes of one image. Raises UserError when they cannot be had."""


@dataclass(frozen=True)
class FeatureSet:
    """Features of the images that could be read.

    Attributes:
        features: float32, shape (M, D), L2-normalised, on the CPU.
        kept: int64, shape (M,), increasing: which image each row belongs to.
        errors: name and message of each of the N - M images left out.
    """

    features: torch.Tensor
    kept: np.ndarray
    errors: list[tuple[str, str]] = field(default_factory=list)


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

    Example:
        >>> import shutil, tempfile
        >>> from pathlib import Path
        >>> from lsn_core import extract_features, load_backbone, load_data
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = shutil.copytree("assets/examples", folder / "photos", ignore=shutil.ignore_patterns("*.csv"))
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
        for index in range(len(data)):
            run.add(index, limits)
            if len(run.waiting) >= batch_size or run.waiting_pixels >= _BATCH_PIXELS:
                run.encode()
        run.encode()
    kept = np.array(sorted(run.rows), dtype=np.int64)
    rows = [run.rows[index] for index in kept.tolist()]
    features = torch.from_numpy(np.stack(rows)) if rows else torch.zeros(0, backbone.dim)
    errors = [(data.names[index], run.errors[index]) for index in sorted(run.errors)]
    logger.info("%d features: %d encoded, %d images left out.", len(kept), run.encoded, len(errors))
    return FeatureSet(features, kept, errors)


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
        self.waiting: dict[bytes, tuple[Image.Image, list[int]]] = {}  # by content, so that equal images wait together
        self.waiting_pixels = 0
        self.encoded = 0

    def add(self, index: int, limits: ImageLimits) -> None:
        name = self.data.names[index]
        try:
            data = self.data.read(index)
            key = hashlib.sha256(data).digest()
            if key in self.waiting:
                self.waiting[key][1].append(index)
                return
            row = self.cache.get(key) if self.cache is not None else None
            if row is not None:
                self._keep([index], row)
                return
            image = open_image(data, name=name, limits=limits)
            if self.on_picture is not None:
                self.on_picture(index, image)
        except UserError as error:
            self._refuse([index], error)
            return
        self.waiting[key] = (image, [index])
        self.waiting_pixels += image.width * image.height

    def encode(self) -> None:
        if not self.waiting:
            return
        waiting, self.waiting, self.waiting_pixels = self.waiting, {}, 0
        features = self.backbone.encode_images([image for image, _ in waiting.values()])
        if tuple(features.shape) != (len(waiting), self.backbone.dim):
            shape = tuple(features.shape)
            raise RuntimeError(f"the backbone gave shape {shape}, not {(len(waiting), self.backbone.dim)}")
        features = torch.nn.functional.normalize(features.detach().float(), dim=1, eps=1e-30).cpu()
        rows = zip(waiting, features.numpy(), strict=True)
        fresh = {key: row for key, row in rows if abs(float(np.linalg.norm(row)) - 1) < 1e-3}  # false for NaN
        self.encoded += len(fresh)
        if self.cache is not None:
            self.cache.put(fresh)  # before the progress is told, as whoever hears it may end the run
        for key, (_, indices) in waiting.items():
            if key in fresh:
                self._keep(indices, fresh[key])
            else:
                self._refuse(indices, None)

    def _keep(self, indices: list[int], row: np.ndarray) -> None:
        self.rows.update(dict.fromkeys(indices, row))
        self.bar.advance(len(indices))

    def _refuse(self, indices: list[int], error: UserError | None) -> None:
        for index in indices:
            name = self.data.names[index]
            if error is None:
                message = (
                    f"{name}: the backbone gave a feature that is NaN, infinite or zero for this image. "
                    "Leave the image out, or use full precision or another backbone."
                )
            else:
                message = str(error)
            if not self.skip:
                raise error or UserError(message)
            logger.warning("Left out: %s", message)
            self.errors[index] = message
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
