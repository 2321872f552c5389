"""Image features, computed once in batches and cached on disk by content hash."""

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image

from lsn_core.data.collection import ImageCollection
from lsn_core.data.feature_cache import DiskFeatureCache, FeatureCache
from lsn_core.data.feature_stream import FeatureStream, ImageEncoder, unopened
from lsn_core.data.images import ImageLimits
from lsn_core.errors import UserError
from lsn_core.progress import progress_bar

logger = logging.getLogger(__name__)

_DEFAULT_LIMITS = ImageLimits()


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
        progress: True for `progress_bar`'s, False for silence, or a function called with (images done, N).
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
    warnings: list[tuple[str, str]] = []

    def warn(name: str | None, sentence: str) -> None:
        logger.warning("%s", sentence)
        warnings.append((name or "", sentence))

    with ExitStack() as closed:
        if isinstance(cache, str | os.PathLike):
            cache = closed.enter_context(closing(DiskFeatureCache(Path(cache), backbone.fingerprint, backbone.dim)))
        stream = FeatureStream(backbone, cache, batch_size, limits, warn, on_picture)
        rows = closed.enter_context(closing(stream.run(unopened(data), len(data))))
        found = gather((row for _, row in rows), data.names, backbone.dim, progress=progress, on_error=on_error)
    logger.info("%d features: %d encoded, %d images left out.", len(found.kept), stream.encoded, len(found.errors))
    if warnings:
        logger.warning("%d of %d images are used with a warning.", len(warnings), len(data))
    return replace(found, warnings=warnings)


def gather(
    rows: Iterable[np.ndarray | UserError],
    names: Sequence[str],
    dim: int,
    *,
    progress: bool | Callable[[int, int], None] = True,
    on_error: Literal["raise", "skip"] = "raise",
) -> FeatureSet:
    """Features that come one by one, from wherever, as one set.

    Args:
        rows: of each of N images its feature, float32, shape (D,), or the error about it.
        names: of the images, shape (N,).
        dim: D.
        progress, on_error: as for `extract_features`.

    Raises:
        UserError: an image has no feature (`on_error="raise"`).
    """
    features: list[np.ndarray] = []
    kept: list[int] = []
    left_out: list[int] = []
    errors: list[tuple[str, str]] = []
    with closing(_Progress(progress, len(names))) as bar:
        for index, found in enumerate(rows):
            if not isinstance(found, UserError):
                features.append(found)
                kept.append(index)
            elif on_error == "raise":
                raise found
            else:
                logger.warning("Left out: %s", found)
                left_out.append(index)
                errors.append((names[index], str(found)))
            bar.advance()
    together = torch.from_numpy(np.stack(features)) if features else torch.zeros(0, dim)
    return FeatureSet(together, np.array(kept, np.int64), errors, np.array(left_out, np.int64))


class _Progress:
    def __init__(self, progress: bool | Callable[[int, int], None], total: int) -> None:
        self._call = progress if callable(progress) else None
        self._bar = progress_bar("Image features", "image", total, shown=progress is True)
        self._done, self._total = 0, total

    def advance(self) -> None:
        self._done += 1
        self._bar.update(1)
        if self._call is not None:
            self._call(self._done, self._total)

    def close(self) -> None:
        self._bar.close()
