"""Where image bytes lie: folders, zip archives and Parquet files, listed once and then read image by image."""

import json
import logging
import os
import stat
import threading
import zipfile
from collections import OrderedDict
from dataclasses import dataclass, fields
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lsn_core.data.images import is_clutter, walk_files
from lsn_core.errors import UserError

logger = logging.getLogger(__name__)

_ROW_GROUPS_KEPT_BYTES = 256 * 2**20
_RATIO_FROM_BYTES = 2**20  # small plain pictures honestly compress a thousandfold
_DIRECTORY_BYTES_PER_ENTRY = 512  # 46 bytes and a path


class DataError(UserError):
    """A data set that cannot be used. The message names the file and what to do."""


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


class FolderSource:
    """The files below a folder, in sorted order."""

    def __init__(self, root: Path, limits: DataLimits) -> None:
        self.limits = limits
        self.files: list[str] = []
        self._paths: list[Path] = []
        for path in walk_files(root):
            if len(self.files) == limits.max_entries:
                raise DataError(f"{root}: more than {limits.max_entries:,} files. Use fewer, or raise the limit.")
            self._paths.append(path)
            self.files.append(_printable(path.relative_to(root).as_posix()))
        outer = [folder for folder in sorted(root.iterdir()) if folder.is_dir() and not is_clutter(folder.name)]
        inner = [sub for folder in outer for sub in folder.iterdir() if sub.is_dir() and not is_clutter(sub.name)]
        self.folders = [_printable(folder.relative_to(root).as_posix()) for folder in outer + inner]

    def read(self, position: int) -> bytes:
        name = self.files[position]
        try:
            if not stat.S_ISREG(os.stat(self._paths[position]).st_mode):
                raise DataError(f"{name}: this is not a regular file. Remove it from the data set.")
            with open(self._paths[position], "rb") as file:
                return _bounded(file.read(self.limits.max_image_bytes + 1), name, self.limits)
        except OSError as error:
            reason = error.strerror or "error while reading"
            raise DataError(f"{name}: the file cannot be read ({reason}). Check that it still exists.") from error


class ZipSource:
    """The files of a zip archive, read in place: nothing is written to disk."""

    def __init__(self, path: Path, limits: DataLimits) -> None:
        self.limits, self._path = limits, path
        self._archive, self._process = self._open(), os.getpid()
        entries = self._archive.infolist()
        if len(entries) > limits.max_entries:
            raise _too_many(path, limits)
        if sum(entry.file_size for entry in entries) > limits.max_total_bytes:
            limit = f"{limits.max_total_bytes / 2**30:.3g} GiB"
            raise DataError(f"{path}: it unpacks to more than {limit}. Use fewer images, or raise the limit.")
        self.files, self.folders, self._entries = [], [], []
        for entry in entries:
            parts = self._checked_parts(entry)
            if not parts or any(is_clutter(part) for part in parts):
                continue
            if entry.is_dir():
                self.folders.append("/".join(parts))
            else:
                self.files.append("/".join(parts))
                self._entries.append(entry)
        if len(set(self.files)) < len(self.files):
            raise DataError(f"{path}: two entries have the same name. Make the archive again.")

    def _open(self) -> zipfile.ZipFile:
        try:
            guard = _DirectoryGuard(FileIO(self._path))
            guard.largest_read = self.limits.max_entries * _DIRECTORY_BYTES_PER_ENTRY
            archive = zipfile.ZipFile(guard)  # reads the directory, in one piece
            guard.largest_read = None
            return archive
        except _DirectoryTooLarge as error:
            raise _too_many(self._path, self.limits) from error
        except Exception as error:  # zipfile gives BadZipFile, struct.error, ValueError, EOFError, ... on bad bytes
            raise DataError(f"{self._path}: the zip archive is damaged ({error}). Make it again.") from error

    def _checked_parts(self, entry: zipfile.ZipInfo) -> list[str]:
        # security: names are only ever shown, but an archive that tries these is not one to go on with.
        name = entry.orig_filename.replace("\\", "/")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        shown = f"{self._path}: the entry {_printable(name)!r}"
        if name.startswith("/") or name[1:2] == ":" or ".." in parts or "\0" in name:
            raise DataError(f"{shown} points outside the archive. Make it again from relative paths.")
        if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise DataError(f"{shown} is a link or a device. Make the archive again from the files themselves.")
        if entry.flag_bits & 0x41:
            raise DataError(f"{shown} is encrypted. Make the archive again without a password.")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # the others unpack without bounds
            raise DataError(f"{shown} uses an unusual compression. Make the archive again with plain zip (deflate).")
        if entry.file_size > max(_RATIO_FROM_BYTES, entry.compress_size * self.limits.max_ratio):
            raise DataError(f"{shown} unpacks to more than {self.limits.max_ratio} times its size. Leave it out.")
        return [_printable(part) for part in parts]

    def read(self, position: int) -> bytes:
        entry, name = self._entries[position], self.files[position]
        if self._process != os.getpid():  # after a fork, the file offset would be shared with the parent
            self._archive, self._process = self._open(), os.getpid()
        try:
            with self._archive.open(entry) as file:
                return _bounded(file.read(self.limits.max_image_bytes + 1), name, self.limits)
        except UserError:
            raise
        except Exception as error:  # BadZipFile, zlib.error, EOFError, NotImplementedError, ... on bad bytes
            raise DataError(f"{name}: damaged in the archive ({error}). Make the archive again.") from error


class ParquetSource:
    """The rows of a Parquet file: labels in memory, image bytes read by row group and the recent groups kept.

    Attributes:
        class_names: class names as the file has them, shape (C,).
        labels: int64, shape (N,), in [0, C).
        names: what to call each image, shape (N,).
    """

    def __init__(self, path: Path, limits: DataLimits) -> None:
        self.limits, self._path = limits, path
        self._lock = threading.Lock()  # a ParquetFile is not safe to share between threads
        self._groups: OrderedDict[int, pa.ChunkedArray] = OrderedDict()
        try:
            self._file = pq.ParquetFile(path)
            self._check_schema()
            columns = [name for name in ("label", "label_name", "image.path") if self._has(name)]
            table = self._file.read(columns=columns)
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            if isinstance(error, UserError):
                raise
            raise DataError(f"{path}: the Parquet file is damaged ({error}). Write it again.") from error
        self.class_names, self.labels = self._read_labels(table)
        paths = table["image"].to_pylist() if "image" in table.column_names else [None] * table.num_rows
        self.names = [_shown_path(row and row["path"], f"{path.name} row {i}") for i, row in enumerate(paths)]
        counts = [self._file.metadata.row_group(i).num_rows for i in range(self._file.num_row_groups)]
        self._starts = np.concatenate(([0], np.cumsum(counts)))

    def _has(self, name: str) -> bool:
        top, _, inner = name.partition(".")
        schema = self._file.schema_arrow
        if schema.get_field_index(top) < 0:
            return False
        kind = schema.field(top).type
        return not inner or (pa.types.is_struct(kind) and kind.get_field_index(inner) >= 0)

    def _check_schema(self) -> None:
        metadata, schema = self._file.metadata, self._file.schema_arrow
        if not (self._has("image") and self._has("label")):
            raise DataError(f"{self._path}: columns `image` and `label` are needed; it has {', '.join(schema.names)}.")
        kind = schema.field("image").type
        kind = kind.field("bytes").type if self._has("image.bytes") else kind
        if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
            raise DataError(f"{self._path}: the column `image` holds {kind}; it must hold the bytes of image files.")
        if metadata.num_rows == 0:
            raise DataError(f"{self._path}: it has no rows. Write it again with images.")
        if metadata.num_rows > self.limits.max_entries:
            raise _too_many(self._path, self.limits)
        groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
        chunks = [group.column(i) for group in groups for i in range(group.num_columns)]
        if sum(chunk.total_uncompressed_size for chunk in chunks) > self.limits.max_total_bytes:
            limit = f"{self.limits.max_total_bytes / 2**30:.3g} GiB"
            raise DataError(f"{self._path}: it unpacks to more than {limit}. Use fewer images, or raise the limit.")

    def _read_labels(self, table: pa.Table) -> tuple[list[str], np.ndarray]:
        column = table["label"]
        if column.null_count:
            row = column.is_null().to_pylist().index(True)
            raise DataError(f"{self._path}: row {row} has no label. Give it one or remove the row.")
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            texts, labels = np.unique(np.array(column.to_pylist(), dtype=object), return_inverse=True)
            return list(texts), labels.astype(np.int64)
        if not pa.types.is_integer(kind):
            raise DataError(f"{self._path}: the column `label` holds {kind}; it must hold whole numbers or text.")
        labels = np.array(column.to_pylist(), dtype=np.int64)
        declared = self._declared_names()
        if declared:
            bad = np.flatnonzero((labels < 0) | (labels >= len(declared)))
            if bad.size:
                label = labels[bad[0]]
                raise DataError(f"{self._path}: row {bad[0]} has label {label}, but there are {len(declared)} classes.")
            return declared, labels
        ids, compact = np.unique(labels, return_inverse=True)
        if "label_name" not in table.column_names:
            logger.warning("%s: its classes have no names, so they are called by their numbers.", self._path)
            return [f"class {label}" for label in ids], compact.astype(np.int64)
        names: dict[int, str] = {}
        for row, (label, name) in enumerate(zip(labels.tolist(), table["label_name"].to_pylist(), strict=True)):
            if not isinstance(name, str) or names.setdefault(label, name) != name:
                raise DataError(
                    f"{self._path}: row {row} has label {label} and name {name!r}, unlike the rows before it."
                )
        return [names[label] for label in ids.tolist()], compact.astype(np.int64)

    def _declared_names(self) -> list[str]:
        try:
            metadata: Any = json.loads((self._file.schema_arrow.metadata or {})[b"huggingface"])
            names = metadata["info"]["features"]["label"]["names"]
        except (KeyError, TypeError, ValueError):
            return []
        return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else []

    def read(self, position: int) -> bytes:
        """The bytes of the image in this row. Raises UserError when they cannot be had."""
        group = int(np.searchsorted(self._starts, position, side="right")) - 1
        name = self.names[position]
        try:
            with self._lock:
                value = self._group(group)[position - int(self._starts[group])].as_py()
        except (pa.ArrowException, OSError, ValueError, IndexError) as error:
            raise DataError(f"{name}: damaged in {self._path.name} ({error}). Write the file again.") from error
        data = value.get("bytes") if isinstance(value, dict) else value
        if data is None:
            raise DataError(f"{name}: row {position} of {self._path.name} has no image bytes. Remove the row.")
        return _bounded(data, name, self.limits)

    def _group(self, group: int) -> pa.ChunkedArray:
        if group not in self._groups:
            columns = ["image.bytes"] if self._has("image.bytes") else ["image"]
            self._groups[group] = self._file.read_row_group(group, columns=columns)["image"]
            while len(self._groups) > 1 and sum(c.nbytes for c in self._groups.values()) > _ROW_GROUPS_KEPT_BYTES:
                self._groups.popitem(last=False)
        self._groups.move_to_end(group)
        return self._groups[group]


class _DirectoryTooLarge(Exception):
    pass


class _DirectoryGuard(BufferedReader):
    # security: zipfile reads the whole directory and makes an object for each entry before anyone can count them.
    largest_read: int | None = None

    def read(self, size: int | None = -1, /) -> bytes:
        if self.largest_read is not None and size is not None and size > self.largest_read:
            raise _DirectoryTooLarge
        return super().read(size)


def _too_many(path: Path, limits: DataLimits) -> DataError:
    return DataError(f"{path}: more than {limits.max_entries:,} entries. Use fewer, or raise the limit.")


def _bounded(data: bytes, name: str, limits: DataLimits) -> bytes:
    if len(data) > limits.max_image_bytes:
        limit = f"{limits.max_image_bytes / 2**20:.3g} MiB"
        raise DataError(f"{name}: the file is larger than the limit of {limit}. Save it smaller, or raise the limit.")
    return data


def _printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")  # file names may hold bytes that are not UTF-8


def _shown_path(path: str | None, otherwise: str) -> str:
    parts = [part for part in (path or "").replace("\\", "/").split("/") if part not in ("", ".", "..")]
    absolute = (path or "").startswith(("/", "\\")) or (path or "")[1:2] == ":"
    return "/".join(parts[-1:] if absolute else parts) or otherwise
