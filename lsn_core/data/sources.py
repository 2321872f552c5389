"""Where image bytes lie: folders, zip archives and Parquet files, listed once and then read image by image."""

import logging
import os
import stat
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Protocol

import numpy as np

from lsn_core.data.images import printable, walk_files
from lsn_core.errors import UserError

logger = logging.getLogger(__name__)


class DataError(UserError):
    """A data set that cannot be used. The message names the file and what to do."""


class SourceLost(DataError):
    """Images that can no longer be reached, all of them: a run ends with it, where others go on without one image."""


class SeveralSplits(DataError):
    """A data set of several splits, of which none was asked for.

    Attributes:
        splits: their names.
    """

    splits: tuple[str, ...] = ()


class Unlabelled(DataError):
    """A data set without labels; its images can serve where none are needed."""


@dataclass(frozen=True)
class DataLimits:
    """How much a data set may hold; what an untrusted archive declares is checked, and what it delivers is again.

    Attributes:
        max_image_bytes: largest encoded image, bytes.
        max_entries: most files and folders in a zip, files in a folder, or rows in a Parquet file.
        max_total_bytes: most bytes in a zip once unpacked, or in a Parquet file's image column.
        max_ratio: largest unpacked / packed size of a zip entry that unpacks to more than 1 MiB.

    Raises:
        UserError: a limit is not a positive whole number.
    """

    max_image_bytes: int = 32 * 2**20
    max_entries: int = 2_000_000
    max_total_bytes: int = 64 * 2**30
    max_ratio: int = 200

    def __post_init__(self) -> None:
        for limit in fields(self):
            value = getattr(self, limit.name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise DataError(f"DataLimits.{limit.name} must be a whole number of at least 1, not {value!r}.")


class FileSource(Protocol):
    """Files by position. `files` and `folders` are relative paths with "/" between the parts, clutter left out."""

    files: list[str]
    folders: list[str]

    def read(self, position: int) -> bytes:
        """The bytes of `files[position]`. Raises UserError when they cannot be had."""


class Rows(ABC):
    """Images in rows, with their labels at hand.

    Attributes:
        class_names: class names as they are given, shape (C,); none without labels.
        labels: int64, shape (N,), in [0, C).
        names: what to call each image, shape (N,).
        splits, split, notes: as of `LabelledImages`.
    """

    class_names: list[str] = []  # noqa: RUF012 - replaced, never changed
    labels: np.ndarray
    names: list[str]
    splits: tuple[str, ...] = ()
    split: str | None = None
    notes: tuple[str, ...] = ()

    @abstractmethod
    def read(self, position: int) -> bytes:
        """The bytes of the image in this row. Raises UserError when they cannot be had."""


class FolderSource:
    """The files below a folder, in sorted order.

    Attributes:
        unread: folders below it that cannot be read, with what is wrong.

    Raises:
        UserError: there are too many files, or the folder itself cannot be read.
    """

    def __init__(self, root: Path, limits: DataLimits) -> None:
        self.limits = limits
        self.files: list[str] = []
        self.folders: list[str] = []
        self._paths: list[str] = []
        self.unread: dict[str, DataError] = {}
        start = len(os.path.join(root, ""))
        closed: list[OSError] = []
        for path in walk_files(root, lambda folder: self.folders.append(_shown(folder[start:])), closed.append):
            if len(self.files) == limits.max_entries:
                raise DataError(f"{root}: more than {limits.max_entries:,} files. Use fewer, or raise the limit.")
            self._paths.append(path)
            self.files.append(_shown(path[start:]))
        for error in closed:
            path = str(error.filename)
            sentence = f"the folder cannot be read ({error.strerror}). Change its permissions, or leave it out."
            self.unread[_shown(path[start:])] = DataError(f"{printable(path)}: {sentence}")
        if "" in self.unread:
            raise self.unread[""]

    def path(self, position: int) -> Path:
        """Where a file lies."""
        return Path(self._paths[position])

    def read(self, position: int) -> bytes:
        name = self.files[position]
        try:
            if not stat.S_ISREG(os.stat(self._paths[position]).st_mode):
                raise DataError(f"{name}: this is not a regular file. Remove it from the data set.")
            with open(self._paths[position], "rb") as file:
                return bounded(file.read(self.limits.max_image_bytes + 1), name, self.limits)
        except OSError as error:
            reason = error.strerror or "error while reading"
            raise DataError(f"{name}: the file cannot be read ({reason}). Check that it still exists.") from error


def _shown(path: str) -> str:
    return printable(path if os.sep == "/" else path.replace(os.sep, "/"))


def too_many(path: object, limits: DataLimits) -> DataError:
    """The error about a set of more entries than the limit."""
    return DataError(f"{path}: more than {limits.max_entries:,} entries. Use fewer, or raise the limit.")


def bounded(data: bytes, name: str, limits: DataLimits) -> bytes:
    """The bytes of an image. Raises DataError where there are more than the limit."""
    if len(data) > limits.max_image_bytes:
        limit = f"{limits.max_image_bytes / 2**20:.3g} MiB"
        raise DataError(f"{name}: the file is larger than the limit of {limit}. Save it smaller, or raise the limit.")
    return data
