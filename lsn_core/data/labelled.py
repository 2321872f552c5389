"""Labelled images from a folder of class folders, a zip of one, or a Parquet file, read one image at a time."""

import logging
import os
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from lsn_core.class_names import fold_name, listed, tidy_name
from lsn_core.data.archive import ZipSource
from lsn_core.data.images import IMAGE_SUFFIXES
from lsn_core.data.parquet import ParquetSource
from lsn_core.data.sources import DataError, DataLimits, FileSource, FolderSource
from lsn_core.errors import UserError

logger = logging.getLogger(__name__)

_LAYOUT = "Put the images of each class into a folder of its own, named after the class: cat/1.jpg, dog/1.jpg, ..."
_SPLIT_NAMES = {"train", "training", "val", "valid", "validation", "test", "testing"}


@dataclass(frozen=True)
class LabelledImages:
    """Images with their classes; the image bytes stay where they are until `read`.

    Attributes:
        class_names: shape (C,); may name classes that no image has.
        labels: int64, shape (N,), indices into `class_names`.
        names: shape (N,), what to call each image: a relative path, or the file's name and row.
    """

    class_names: tuple[str, ...]
    labels: np.ndarray
    names: tuple[str, ...]
    _read: Callable[[int], bytes] = field(repr=False)
    _positions: np.ndarray = field(repr=False)

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

    def select_classes(self, classes: Iterable[str | int]) -> "LabelledImages":
        """The images of these classes only, labelled anew in the order given.

        Args:
            classes: class names (case and underscores do not matter) or indices into `class_names`, each once.

        Raises:
            UserError: a class is unknown or given twice, or none is given.
        """
        ids = {fold_name(name): index for index, name in enumerate(self.class_names)}
        chosen: list[int] = []
        for item in classes:
            index = ids.get(fold_name(item), -1) if isinstance(item, str) else int(item)
            if not 0 <= index < len(self.class_names):
                raise DataError(f"There is no class {item!r}; there are {listed(self.class_names)}.")
            if index in chosen:
                raise DataError(f"The class {item!r} is given twice; give each class once.")
            chosen.append(index)
        if not chosen:
            raise DataError(f"No class was chosen; choose from {listed(self.class_names)}.")
        new_ids = np.full(len(self.class_names), -1, dtype=np.int64)
        new_ids[chosen] = np.arange(len(chosen))
        kept = self.subset(np.flatnonzero(new_ids[self.labels] >= 0))
        return replace(kept, class_names=tuple(self.class_names[i] for i in chosen), labels=new_ids[kept.labels])


_DEFAULT_LIMITS = DataLimits()


def load_data(path: str | os.PathLike[str], limits: DataLimits = _DEFAULT_LIMITS) -> LabelledImages:
    """Open a labelled image set without reading its images.

    Args:
        path: a folder of class folders, a zip of one (read in place, never extracted), or a Parquet file with columns
            `image` (struct of `bytes` and `path`, or plain bytes) and `label` (whole numbers, named by the Hugging Face
            schema metadata or a `label_name` column, or text). One folder around the class folders is allowed.
        limits: what to refuse.

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
    source = Path(path)
    try:
        if source.is_dir():
            return _arrange(FolderSource(source, limits), str(path))
        if not source.is_file():
            raise DataError(f"{path}: there is no such file or folder. Check the path.")
        with open(source, "rb") as file:
            magic = file.read(4)
        if magic == b"PAR1":
            table = ParquetSource(source, limits)
            class_names, rows = _class_names(table.class_names, str(path)), np.arange(len(table.names))
            return LabelledImages(class_names, table.labels, tuple(table.names), table.read, rows)
        if magic[:2] == b"PK" or zipfile.is_zipfile(source):
            return _arrange(ZipSource(source, limits), str(path))
    except (OSError, ValueError, OverflowError) as error:
        if isinstance(error, UserError):
            raise
        raise DataError(f"{path}: cannot be read ({error}). Check the path and the file.") from error
    raise DataError(f"{path}: this is neither a folder of class folders, a zip of one, nor a Parquet file. {_LAYOUT}")


def _class_names(raw: Sequence[str], where: str) -> tuple[str, ...]:
    first: dict[str, str] = {}
    for name in raw:
        if not tidy_name(name):
            raise DataError(f"{where}: a class has no name (it reads {name!r}). Give it a name.")
        other = first.setdefault(fold_name(name), name)
        if other is not name:
            raise DataError(f"{where}: the classes {other!r} and {name!r} have the same name. Rename or merge them.")
    if not first:
        raise DataError(f"{where}: there are no classes. {_LAYOUT}")
    return tuple(tidy_name(name) for name in raw)


def _arrange(source: FileSource, where: str) -> LabelledImages:
    files = source.files
    paths = [tuple(file.split("/")) for file in files]
    images = [index for index, parts in enumerate(paths) if Path(parts[-1]).suffix.lower() in IMAGE_SUFFIXES]
    if not images:
        raise DataError(f"{where}: there are no image files in it. {_LAYOUT}")
    if len(images) < len(paths):
        other = files[min(set(range(len(paths))) - set(images))]
        logger.warning("%s: %d other files left out, such as %s.", where, len(paths) - len(images), other)
    depth = 0
    if len({paths[index][0] for index in images}) == 1 and all(len(paths[index]) > 2 for index in images):
        depth = 1  # one folder around the class folders
    loose = [files[index] for index in images if len(paths[index]) < depth + 2]
    if loose:
        raise DataError(f"{where}: {len(loose)} images are in no class folder, such as {loose[0]}. {_LAYOUT}")
    classes = {paths[index][depth] for index in images}
    if {name.lower() for name in classes} <= _SPLIT_NAMES and all(len(paths[index]) > depth + 2 for index in images):
        raise DataError(f"{where}: it holds the splits {listed(sorted(classes))}. Give one of them by itself.")
    folders = [tuple(folder.split("/")) for folder in source.folders] + [parts[:-1] for parts in paths]
    outer = paths[images[0]][:depth]
    empty = {parts[depth] for parts in folders if len(parts) > depth and parts[:depth] == outer} - classes
    if empty:
        raise DataError(f"{where}: no images in the class folders {listed(sorted(empty))}. Add some or remove them.")
    raw = sorted(classes)
    ids = {name: index for index, name in enumerate(raw)}
    images.sort(key=lambda index: paths[index])
    labels = np.array([ids[paths[index][depth]] for index in images], dtype=np.int64)
    names = tuple("/".join(paths[index][depth:]) for index in images)
    return LabelledImages(_class_names(raw, where), labels, names, source.read, np.array(images, dtype=np.int64))
