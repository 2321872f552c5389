"""What every set of images is to those who read it: a folder, a zip, a Parquet file, a list of uploaded files."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import numpy as np

from lsn_core.data.images import open_image, printable, read_image_file
from lsn_core.errors import UserError


@runtime_checkable
class ImageCollection(Protocol):
    """Encoded images with names, read one by one; `LabelledImages` and `ImageList` are two."""

    @property
    def names(self) -> Sequence[str]:
        """What to call each image, shape (N,)."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> bytes:
        """Encoded bytes of image `index` in [0, N). Raises UserError when they cannot be had."""


@dataclass(frozen=True)
class ImageList:
    """Images of any origin, with the class of each where it is known.

    Attributes:
        names: what to call each image, shape (N,).
        reader: encoded bytes of an image by its index. Raises UserError when they cannot be had.
        classes: the class of each image, shape (N,); None where that is not known.
        title: what to call the whole; may be empty.
    """

    names: tuple[str, ...]
    reader: Callable[[int], bytes] = field(repr=False)
    classes: tuple[str, ...] | None = None
    title: str = ""

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> bytes:
        """Encoded bytes of image `index` in [0, N). Raises UserError when they cannot be had."""
        return self.reader(index)

    def subset(self, indices: Sequence[int]) -> ImageList:
        """The images at these indices, in this order."""
        classes = None if self.classes is None else tuple(self.classes[index] for index in indices)
        names = tuple(self.names[index] for index in indices)
        return replace(self, names=names, reader=lambda index: self.reader(indices[index]), classes=classes)


def list_files(paths: Sequence[str | os.PathLike[str]]) -> ImageList:
    """Image files as a collection, named by their paths; what `open_image` refuses to read is refused here."""
    names = tuple(printable(os.fspath(path)) for path in paths)
    return ImageList(names, lambda index: read_image_file(paths[index], names[index]))


def join(collections: Sequence[ImageCollection]) -> ImageList:
    """Collections one after the other, as one without classes."""
    sources = [(part, index) for part in collections for index in range(len(part))]

    def read(index: int) -> bytes:
        part, own_index = sources[index]
        return part.read(own_index)

    return ImageList(tuple(name for part in collections for name in part.names), read)


def unreadable(images: ImageCollection, most: int = 200) -> list[str]:
    """What is wrong with those of up to `most` images, evenly spread, that cannot be read, as sentences."""
    chosen = np.unique(np.linspace(0, len(images) - 1, min(most, len(images))).round().astype(int))
    problems = []
    for index in chosen.tolist():
        try:
            open_image(images.read(index), name=images.names[index])
        except UserError as error:
            problems.append(str(error))
    return problems
