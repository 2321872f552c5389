"""Which labelled images are drawn, and which of them are held out."""

import hashlib
import logging
from collections.abc import Sequence

import numpy as np

from lsn_core.class_names import fold_name, listed
from lsn_core.data.labelled import LabelledImages
from lsn_core.data.sources import DataError

logger = logging.getLogger(__name__)


def few_shot(
    data: LabelledImages, shots: int | None, seed: int, reserve: Sequence[int] | np.ndarray = ()
) -> np.ndarray:
    """Draw the same number of images from every class, without replacement.

    A class's draw depends on the seed, its name and its own images only, and a larger draw contains a smaller one.

    Args:
        data: the images to draw from.
        shots: images per class, at least 1, or None for all. A class with fewer gives all it has, with a warning.
        seed: at least 0.
        reserve: indices kept out of the draw, for example those held out for calibration.

    Returns:
        Sorted int64 indices into `data`.

    Raises:
        UserError: `shots` is below 1.
    """
    if shots is not None and shots < 1:
        raise DataError(f"The number of shots must be at least 1, or left out to use every image, not {shots}.")
    allowed = np.ones(len(data), dtype=bool)
    allowed[np.asarray(reserve, dtype=np.int64)] = False
    candidates = np.flatnonzero(allowed)
    counts = np.bincount(data.labels[candidates], minlength=len(data.class_names))
    short = [f"{name} ({n})" for name, n in zip(data.class_names, counts, strict=True) if shots and n < shots]
    if short:
        logger.warning("Fewer than %s images in %s; all of them are used.", shots, listed(short))
    return candidates[draw(data.labels[candidates], data.class_names, shots, seed)]


def draw(labels: np.ndarray, class_names: Sequence[str], shots: int | None, seed: int) -> np.ndarray:
    """The one draw of shots: what `few_shot` draws of image sets, and `train` of features.

    Args:
        labels: class indices, shape (N,).
        class_names: the C classes; a name's spelling (case, underscores) has no effect.
        shots: images per class, at least 1; None, and a class with fewer, give all.
        seed: at least 0.

    Returns:
        Sorted int64 indices into `labels`, shape (M,).
    """
    drawn = [np.zeros(0, dtype=np.int64)]
    for label, name in enumerate(class_names):
        members = np.flatnonzero(labels == label)
        name_seed = int.from_bytes(hashlib.sha256(fold_name(name).encode()).digest()[:8], "big")
        order = np.random.Generator(np.random.PCG64([seed, name_seed])).permutation(len(members))
        drawn.append(members[order[:shots]])
    return np.sort(np.concatenate(drawn))


def split(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split images into a training and a held-out part, each class in proportion.

    Args:
        labels: class indices, shape (N,).
        share: share to hold out, in [0, 1). The total is share x N to the nearest whole image, as far as every class
            can keep at least one image for training; each class gives its own share to within one image.
        seed: at least 0.

    Returns:
        Sorted int64 indices of the training part and of the held-out part.

    Raises:
        UserError: `share` is out of range.
    """
    if not 0 <= share < 1:
        raise DataError(f"The share to hold out must be at least 0 and below 1, not {share!r}.")
    labels = np.asarray(labels)
    classes, counts = np.unique(labels, return_counts=True)
    exact = share * counts
    quota = np.floor(exact + 1e-9).astype(np.int64)
    ties = np.random.Generator(np.random.PCG64([seed, len(labels)])).permutation(len(classes))
    for index in np.lexsort((ties, quota - exact)):  # the largest remainders are rounded up
        if quota.sum() < round(share * len(labels)) and exact[index] > quota[index]:
            quota[index] += 1
    quota = np.minimum(quota, counts - 1)
    held = np.zeros(len(labels), dtype=bool)
    for label, number in zip(classes, quota, strict=True):
        order = np.random.Generator(np.random.PCG64([seed, int(label)])).permutation(np.flatnonzero(labels == label))
        held[order[:number]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)
