"""Image features, computed once in batches and cached on disk by content hash."""

import hashlib
import logging
import os
import sqlite3
import uuid
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from lsn_core.data.images import ImageLimits, open_image
from lsn_core.errors import UserError

logger = logging.getLogger(__name__)

CACHE_FILE = "features-v1.sqlite"
"""Name of the cache inside its folder; the number changes with the table's layout."""

_BATCH_PIXELS = 100_000_000  # at most this much is decoded at a time (about 0.4 GB), however large the photos are
_BUSY_SECONDS = 30.0
_CACHE_ERRORS = (sqlite3.Error, OSError, ValueError, OverflowError)  # sqlite3 lets UnicodeDecodeError through
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
    cache_dir: Path | None,
    batch_size: int = 64,
    progress: bool | Callable[[int, int], None] = True,
    on_error: Literal["raise", "skip"] = "raise",
    limits: ImageLimits = _DEFAULT_LIMITS,
) -> FeatureSet:
    """Encode every image, taking from the cache what was encoded before.

    A feature is found again by the SHA-256 of the image's bytes and the backbone's fingerprint, so an edited image or
    another backbone never meets a stale entry, and equal images are encoded once. What a call has encoded is kept batch
    by batch, even when the call is cut short. A cache that is damaged, locked or read-only costs time, not the result.

    Args:
        backbone: turns pictures into features.
        data: N images.
        cache_dir: folder of the cache, made when missing; several processes may share it. None for no cache.
        batch_size: most pictures given to the backbone at once, at least 1.
        progress: True for a tqdm bar, False for silence, or a function called with (images done, N).
        on_error: "raise" stops at the first unusable image, "skip" leaves it out and lists it in `errors`.
        limits: largest image accepted.

    Raises:
        UserError: an image cannot be read or has a feature that is NaN, infinite or zero (`on_error="raise"`), or an
            argument is out of range. The message names the image.
    """
    if batch_size < 1:
        raise UserError(f"The batch size must be at least 1, not {batch_size}.")
    if on_error not in ("raise", "skip"):
        raise UserError(f'on_error must be "raise" or "skip", not {on_error!r}.')
    with closing(_Cache(cache_dir, backbone)) as cache, closing(_Progress(progress, len(data))) as bar:
        run = _Extraction(backbone, data, cache, bar, on_error == "skip")
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
        self, backbone: ImageEncoder, data: ImageCollection, cache: "_Cache", bar: "_Progress", skip: bool
    ) -> None:
        self.backbone, self.data, self.cache, self.bar, self.skip = backbone, data, cache, bar, skip
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
            row = self.cache.get(key)
            if row is not None:
                self._keep([index], row)
                return
            image = open_image(data, name=name, limits=limits)
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


class _Cache:
    """Features in one SQLite file: commits survive a kill, locks serve several processes, each row has a checksum."""

    def __init__(self, folder: Path | None, backbone: ImageEncoder) -> None:
        self._fingerprint, self._dim = backbone.fingerprint, backbone.dim
        self._path = None if folder is None else Path(folder) / CACHE_FILE
        self._connection: sqlite3.Connection | None = None
        if self._path is not None:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._connect()
            except _CACHE_ERRORS as error:
                self._give_up(error)

    def _connect(self) -> None:
        assert self._path is not None
        self._connection = sqlite3.connect(self._path, timeout=_BUSY_SECONDS)
        # The default rollback journal, not WAL: WAL needs shared memory, which network file systems lack.
        with self._connection:
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS features (fingerprint TEXT NOT NULL, image BLOB NOT NULL,"
                " feature BLOB NOT NULL, checksum BLOB NOT NULL, PRIMARY KEY (fingerprint, image))"
            )

    def get(self, key: bytes) -> np.ndarray | None:
        if self._connection is None:
            return None
        try:
            found = self._connection.execute(
                "SELECT feature, checksum FROM features WHERE fingerprint = ? AND image = ?", (self._fingerprint, key)
            ).fetchone()
        except _CACHE_ERRORS as error:
            self._give_up(error)
            return None
        if found is None:
            return None
        feature, checksum = found
        if not isinstance(feature, bytes) or len(feature) != 4 * self._dim or self._checksum(key, feature) != checksum:
            logger.warning("%s: a damaged entry was ignored and will be computed again.", self._path)
            return None
        return np.frombuffer(feature, dtype="<f4").astype(np.float32)

    def put(self, rows: dict[bytes, np.ndarray]) -> None:
        if self._connection is None or not rows:
            return
        blobs = {key: row.astype("<f4").tobytes() for key, row in rows.items()}
        entries = [(self._fingerprint, key, blob, self._checksum(key, blob)) for key, blob in blobs.items()]
        try:
            with self._connection:
                self._connection.executemany("INSERT OR REPLACE INTO features VALUES (?, ?, ?, ?)", entries)
        except _CACHE_ERRORS as error:
            self._give_up(error)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _checksum(self, key: bytes, feature: bytes) -> bytes:
        return hashlib.sha256(b"\0".join((self._fingerprint.encode(), key, feature))).digest()[:8]

    def _give_up(self, error: Exception) -> None:
        """Go on without a cache; one that is damaged is moved out of the way and begun anew."""
        self.close()
        assert self._path is not None
        if isinstance(error, sqlite3.OperationalError | OSError):  # locked, read-only, disk full: not damaged
            logger.warning("%s: the feature cache cannot be used (%s); going on without it.", self._path, error)
            return
        aside = self._path.with_name(f"{self._path.name}.damaged-{uuid.uuid4().hex[:8]}")
        logger.warning("%s: the feature cache is damaged (%s); it is set aside as %s.", self._path, error, aside.name)
        try:
            journal = Path(f"{self._path}-journal")
            os.replace(self._path, aside)
            if journal.exists():  # it belongs to the damaged file and would be replayed into the new one
                os.replace(journal, f"{aside}-journal")
            self._connect()
        except _CACHE_ERRORS as again:
            self.close()
            logger.warning("%s: no new feature cache could be begun (%s); going on without.", self._path, again)
