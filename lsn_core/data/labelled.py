"""Labelled images from a folder of class folders, a zip of one, or a Parquet file, read one image at a time."""

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lsn_core.class_names import composed, fold_name, listed, tidy_name
from lsn_core.data.images import printable
from lsn_core.data.layout import LAYOUT, Wanted, arrange
from lsn_core.data.opening import open_source
from lsn_core.data.sources import DataError, DataLimits, Rows

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelledImages:
    """Images with their classes; the image bytes stay where they are until `read`.

    Attributes:
        class_names: shape (C,); may name classes that no image has.
        labels: int64, shape (N,), indices into `class_names`.
        names: shape (N,), what to call each image: a relative path, or the file's name and row.
        splits: those of the set that can be taken, where it is one of several; else empty.
        split: the one that was taken.
        notes: what was guessed and left out, as sentences.
    """

    class_names: tuple[str, ...]
    labels: np.ndarray
    names: tuple[str, ...]
    _read: Callable[[int], bytes] = field(repr=False)
    _positions: np.ndarray = field(repr=False)
    splits: tuple[str, ...] = ()
    split: str | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> bytes:
        """The encoded bytes of image `index` in [0, N). Raises UserError if they cannot be read, IndexError outside."""
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        return self._read(int(self._positions[index]))

    def subset(self, indices: Sequence[int] | np.ndarray) -> "LabelledImages":
        """The images at these indices, in this order, with all class names. Raises IndexError outside [0, N)."""
        chosen = np.asarray(indices, dtype=np.int64)
        if chosen.size and (chosen.min() < 0 or chosen.max() >= len(self)):
            raise IndexError(f"indices reach from {chosen.min()} to {chosen.max()}, outside the {len(self)} images")
        names = tuple(self.names[index] for index in chosen)
        return replace(self, labels=self.labels[chosen], names=names, _positions=self._positions[chosen])

    def without_empty_classes(self) -> "LabelledImages":
        """The same without classes that no image has, which are named in a warning."""
        counts = np.bincount(self.labels, minlength=len(self.class_names))
        if counts.all() or not counts.any():
            return self
        empty = [self.class_names[index] for index in np.flatnonzero(counts == 0)]
        logger.warning("%d classes have no images and are left out: %s.", len(empty), listed(empty))
        return self.select_classes(np.flatnonzero(counts).tolist())

    def select_classes(self, classes: Iterable[str | int]) -> "LabelledImages":
        """The images of these classes only, labelled anew in the order given.

        Args:
            classes: class names (case and underscores do not matter) or indices into `class_names`, each once.

        Raises:
            UserError: a class is unknown or given twice, or none is given.
        """
        ids = {fold_name(name): index for index, name in enumerate(self.class_names)}
        chosen: dict[int, None] = {}  # in order
        for item in classes:
            index = ids.get(fold_name(item), -1) if isinstance(item, str) else int(item)
            if not 0 <= index < len(self.class_names):
                raise DataError(f"There is no class {item!r}; there are {listed(self.class_names)}.")
            if index in chosen:
                raise DataError(f"The class {item!r} is given twice; give each class once.")
            chosen[index] = None
        if not chosen:
            raise DataError(f"No class was chosen; choose from {listed(self.class_names)}.")
        new_ids = np.full(len(self.class_names), -1, dtype=np.int64)
        new_ids[[*chosen]] = np.arange(len(chosen))
        kept = self.subset(np.flatnonzero(new_ids[self.labels] >= 0))
        return replace(kept, class_names=tuple(self.class_names[i] for i in chosen), labels=new_ids[kept.labels])


_DEFAULT_LIMITS = DataLimits()


def load_data(
    path: Any,
    limits: DataLimits = _DEFAULT_LIMITS,
    *,
    split: str | None = None,
    guess: Sequence[str] = (),
    image_column: str | None = None,
    label_column: str | None = None,
) -> LabelledImages:
    """Open a labelled image set without reading its images.

    Args:
        path: a folder of class folders or a zip of one (read in place, never extracted), with any folders around them;
            without class folders, a table beside the images labels them (labels.csv, metadata.jsonl, ...). Or a Parquet
            file, or a folder of such shards, with a column of images (`image`, `img`, ...: bytes, or a struct of
            `bytes` and `path`) and one of labels (`label`, `fine_label`, ...: text, or whole numbers that the Hugging
            Face metadata or a column `label_name` names). Or an address of Parquet files for fsspec
            (hf://datasets/...), or a `datasets.Dataset` or `DatasetDict`.
        limits: what to refuse.
        split: which split to take, where there are several (`train`, `test_set`, ...).
        guess: kinds of splits (`train`, `val`, `test`), of which the first that is there is taken, with a warning,
            where there are several and none is named. Without it, several are an error.
        image_column: name of the column of images, or of their file names, where it is not clear.
        label_column: name of the column of labels, where it is not clear.

    Returns:
        The images, in sorted order (rows in file order). Underscores in class names become spaces.

    Raises:
        UserError: the path, its layout, its labels or its size is not acceptable.

    Examples:
        >>> import shutil, tempfile
        >>> from pathlib import Path
        >>> from lsn_core import load_data
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("cat", "dog"):
        ...     (folder / name).mkdir()
        ...     _ = shutil.copy(f"assets/examples/{name}.jpg", folder / name)
        >>> images = load_data(folder)
        >>> images.class_names, images.labels.tolist(), images.names
        (('cat', 'dog'), [0, 1], ('cat/cat.jpg', 'dog/dog.jpg'))
    """
    where = printable(os.fspath(path)) if isinstance(path, str | os.PathLike) else "the data set"
    wanted = Wanted(split, tuple(guess), image_column, label_column)
    source = open_source(path, limits, wanted)
    if isinstance(source, Rows):
        class_names, rows = _class_names(source.class_names, where), np.arange(len(source.names))
        names = tuple(source.names)
        return LabelledImages(
            class_names, source.labels, names, source.read, rows, source.splits, source.split, source.notes
        )
    arranged = arrange(source, where, wanted)
    raw = sorted({composed(name) for name in set(arranged.classes)})
    places = {name: index for index, name in enumerate(raw)}
    ids = {name: places[composed(name)] for name in set(arranged.classes)}
    labels = np.array([ids[name] for name in arranged.classes], dtype=np.int64)
    positions = np.array(arranged.positions, dtype=np.int64)
    return LabelledImages(
        _class_names(raw, where),
        labels,
        tuple(arranged.names),
        source.read,
        positions,
        arranged.splits,
        arranged.split,
        arranged.notes,
    )


def _class_names(raw: Sequence[str], where: str) -> tuple[str, ...]:
    first: dict[str, str] = {}
    for name in raw:
        if not tidy_name(name):
            raise DataError(f"{where}: a class has no name (it reads {name!r}). Give it a name.")
        other = first.setdefault(fold_name(name), name)
        if other is not name:
            raise DataError(f"{where}: the classes {other!r} and {name!r} have the same name. Rename or merge them.")
    if not first:
        raise DataError(f"{where}: there are no classes. {LAYOUT}")
    return tuple(tidy_name(name) for name in raw)
