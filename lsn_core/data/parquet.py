"""Labelled images in a Parquet file."""

import logging
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lsn_core.data.formats import suffix
from lsn_core.data.images import printable
from lsn_core.data.label_table import Columns
from lsn_core.data.parquet_columns import choose_columns
from lsn_core.data.parquet_pages import Chunk, ChunkSize, PageError, chunk_size, read_chunks
from lsn_core.data.remote import RemoteFile
from lsn_core.data.row_labels import declared_names, read_labels
from lsn_core.data.sources import DataError, DataLimits, Rows, SourceLost, bounded, too_many
from lsn_core.errors import UserError

logger = logging.getLogger(__name__)

_KEPT_BYTES = 256 * 2**20  # of image bytes that were read
_BATCH_BYTES = 32 * 2**20  # of image bytes that are read at a time
_TEXT_BYTES = 256 * 2**20  # of labels and names together
_MOST_CHUNKS = 50_000
_LONGEST_NAME = 4096
_FOOTER: dict[str, Any] = {"thrift_string_size_limit": 16 * 2**20, "thrift_container_size_limit": 500_000}


class ParquetSource(Rows):
    """The rows of a Parquet file: labels in memory, image bytes read in batches and the recent ones kept.

    Nothing is unpacked before the headers of its pages have been read. Labels stay in dictionaries, where a text that a
    million rows share is there once; images and their names are read so many rows at a time that even copies of the
    largest value fit in memory.

    Attributes:
        class_names: class names as the file has them, shape (C,).
        labels: int64, shape (N,), in [0, C).
        names: what to call each image, shape (N,).
    """

    def __init__(self, path: Path | RemoteFile, limits: DataLimits, wanted: Columns, labelled: bool = True) -> None:
        """Lists the rows.

        Args:
            limits: what to refuse.
            wanted: names of columns, where they are not clear.
            labelled: False leaves labels out; there are then no classes.
        """
        self.limits, self._path = limits, path
        self._lock = threading.Lock()  # a ParquetFile is not safe to share between threads
        self._groups: OrderedDict[int, _GroupReader] = OrderedDict()
        try:
            schema = self._parquet().schema_arrow
            self._columns = choose_columns(schema, str(path), wanted, labelled)
            self._file = self._open()
            self._check_size()
            self._rows = self._check_pages()
            self.labels = np.zeros(self._file.metadata.num_rows, dtype=np.int64)
            if labelled:
                table = self._file.read(columns=self._columns.texts)
                names = declared_names(self._file.schema_arrow, str(self._columns.label), str(path))
                self.class_names, self.labels = read_labels(table, self._columns, names, str(path))
            self.names = _told_apart(self._read_names()) if self._columns.path else self._numbered(0, len(self.labels))
        except (pa.ArrowException, OSError, ValueError, KeyError, MemoryError) as error:
            if isinstance(error, UserError) and not isinstance(error, PageError):
                raise
            raise DataError(f"{path}: the Parquet file is damaged ({error}). Write it again.") from error
        counts = [self._file.metadata.row_group(i).num_rows for i in range(self._file.num_row_groups)]
        self._starts = np.concatenate(([0], np.cumsum(counts)))

    def _parquet(self, **options: Any) -> pq.ParquetFile:
        file = self._path.open("rb") if isinstance(self._path, RemoteFile) else self._path
        return pq.ParquetFile(file, **_FOOTER, **options)

    def _open(self) -> pq.ParquetFile:
        schema = self._parquet().schema
        columns = [schema.column(i) for i in range(len(schema))]
        texts = [column.path for column in columns if column.physical_type == "BYTE_ARRAY"]
        kept = [path for path in texts if path in self._columns.texts]
        return self._parquet(read_dictionary=kept)

    def _check_size(self) -> None:
        metadata = self._file.metadata
        if metadata.num_rows == 0:
            raise DataError(f"{self._path}: it has no rows. Write it again with images.")
        if metadata.num_rows > self.limits.max_entries:
            raise too_many(self._path, self.limits)
        if metadata.num_row_groups * metadata.num_columns > _MOST_CHUNKS:
            raise DataError(f"{self._path}: it has too many columns and row groups. Write it again with fewer.")

    def _check_pages(self) -> dict[str, list[int]]:
        """Rows to read at a time, for each column and row group. What would unpack to too much is refused."""
        metadata, schema = self._file.metadata, self._file.schema
        places = {schema.column(i).path: i for i in range(len(schema))}
        wanted = [*self._columns.texts, *filter(None, [self._columns.path]), self._columns.image]
        with self._path.open("rb") as file:
            groups = read_chunks(file)
            if [len(columns) for columns in groups] != [len(schema)] * metadata.num_row_groups:
                raise PageError("a row group has not one chunk for each column")
            sizes = {
                name: self._chunk_sizes(file, name, [columns[places[name]] for columns in groups]) for name in wanted
            }
        total = {name: sum(size.unpacked for size in column) for name, column in sizes.items()}
        texts = sum(total.values()) - total[self._columns.image]
        for bytes_needed, limit in ((sum(total.values()), self.limits.max_total_bytes), (texts, _TEXT_BYTES)):
            if bytes_needed > limit:
                raise DataError(
                    f"{self._path}: it unpacks to more than {limit / 2**30:.3g} GiB"
                    f"{' of labels and names' if limit == _TEXT_BYTES else ''}. Use fewer images, or raise the limit."
                )
        counts = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
        return {
            name: [_rows_at_a_time(rows, size) for rows, size in zip(counts, column, strict=True)]
            for name, column in sizes.items()
        }

    def _chunk_sizes(self, file: BinaryIO, name: str, chunks: list[Chunk]) -> list[ChunkSize]:
        sizes = []
        for number, chunk in enumerate(chunks):
            if chunk.values != self._file.metadata.row_group(number).num_rows:
                raise PageError(f"the column `{name}` has not one value a row")
            size = chunk_size(file, chunk, self.limits.max_entries)
            if size.worst_ratio > self.limits.max_ratio:
                raise DataError(
                    f"{self._path}: a page of the column `{name}` unpacks to more than {self.limits.max_ratio} times "
                    "its size. Write the file again without it."
                )
            sizes.append(size)
        return sizes

    def _read_names(self) -> list[str]:
        names: list[str] = []
        length = 0
        column = str(self._columns.path)
        for group, rows in enumerate(self._rows[column]):
            for batch in self._file.iter_batches(rows, [group], [column]):
                paths = batch.column(0).field("path")
                length += paths.nbytes
                if length > _TEXT_BYTES:
                    raise DataError(f"{self._path}: the names of its images are too long. Write it again without them.")
                names += [
                    _shown_path(path) or otherwise
                    for path, otherwise in zip(paths.to_pylist(), self._numbered(len(names), len(paths)), strict=True)
                ]
        return names

    def _numbered(self, first: int, count: int) -> list[str]:
        return [f"{self._path.name} row {row}" for row in range(first, first + count)]

    def read(self, position: int) -> bytes:
        """The bytes of the image in this row. Raises UserError when they cannot be had."""
        group = int(np.searchsorted(self._starts, position, side="right")) - 1
        name = self.names[position]
        try:
            with self._lock:
                data = self._value(group, position - int(self._starts[group]))
        except SourceLost:
            raise
        except (pa.ArrowException, OSError, ValueError, IndexError, MemoryError) as error:
            raise DataError(f"{name}: damaged in {self._path.name} ({error}). Write the file again.") from error
        if data is None:
            raise DataError(f"{name}: row {position} of {self._path.name} has no image bytes. Remove the row.")
        return bounded(data, name, self.limits)

    def release(self) -> None:
        """Lets go of the images that were kept."""
        with self._lock:
            self._groups.clear()

    def _value(self, group: int, row: int) -> bytes | None:
        if group not in self._groups:
            column = self._columns.image
            self._groups[group] = _GroupReader(self._file, group, column, self._rows[column][group])
        self._groups.move_to_end(group)
        reader = self._groups[group]
        before = reader.nbytes
        value = reader.value(row)
        if reader.nbytes > before:  # and not for each row, as a file may have a group for a hundred
            kept = sum(reader.nbytes for reader in self._groups.values())
            while len(self._groups) > 1 and kept > _KEPT_BYTES:
                kept -= self._groups.popitem(last=False)[1].nbytes
        return value


class _GroupReader:
    """The images of a row group, read in batches as they are asked for; batches are kept as long as there is room."""

    def __init__(self, file: pq.ParquetFile, group: int, column: str, rows: int) -> None:
        self._file, self._group, self._column, self._rows = file, group, column, rows
        self._parts: deque[tuple[int, pa.Array]] = deque()  # first row and values
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._next = 0
        self.nbytes = 0  # of the parts, each of which takes long to count

    def value(self, row: int) -> bytes | None:
        """The bytes in this row, or None."""
        if not self._parts or row < self._parts[0][0]:
            self._parts.clear()
            self._next = self.nbytes = 0
            self._batches = self._file.iter_batches(self._rows, [self._group], [self._column])
        while row >= self._next:
            batch = next(self._batches, None)
            if batch is None:
                raise IndexError("rows are missing")
            values = batch.column(0)
            values = values.field("bytes") if pa.types.is_struct(values.type) else values
            self._parts.append((self._next, values))
            self._next += len(values)
            self.nbytes += values.nbytes
            while len(self._parts) > 1 and self.nbytes > _KEPT_BYTES:
                self.nbytes -= self._parts.popleft()[1].nbytes
        start, part = next((start, part) for start, part in reversed(self._parts) if start <= row)
        return part[row - start].as_py()


def _told_apart(names: list[str]) -> list[str]:
    """The names, with the row in those that come twice: often file names whose class folders are not told."""
    counts = Counter(names)
    if len(counts) == len(names):
        return names
    return [_with_row(name, row) if counts[name] > 1 else name for row, name in enumerate(names)]


def _with_row(name: str, row: int) -> str:
    ending = suffix(name)
    return f"{name[: len(name) - len(ending)]} (row {row}){name[len(name) - len(ending) :]}"


def _rows_at_a_time(rows: int, size: ChunkSize) -> int:
    """Rows of which the values fit in a batch, even if all of them were the whole dictionary."""
    return max(1, min(rows * _BATCH_BYTES // max(1, size.unpacked), 4 * _BATCH_BYTES // max(1, size.dictionary), rows))


def _shown_path(path: str | None) -> str:
    path = (path or "")[-_LONGEST_NAME:].replace("\\", "/")
    parts = [part for part in path.split("/") if part not in ("", ".", "..")]
    absolute = path.startswith("/") or path[1:2] == ":"
    return printable("/".join(parts[-1:] if absolute else parts))
