"""What the pages of a Parquet file unpack to, read from their headers before any of them is unpacked.

The footer declares sizes too, but nothing holds a page to it, and pyarrow does not tell of pages. Headers and footer
are Thrift structs in the compact protocol (parquet-format's README and parquet.thrift, Apache Thrift's
thrift-compact-protocol.md). The footer is read here too, as pyarrow's own description of a column ends the process, by
an exception that nobody catches, where the column's statistics are those of another kind.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from lsn_core.errors import UserError

RATIO_FROM_BYTES = 4 * 2**20
"""Size of a page from which its ratio counts: labels and other small numbers honestly compress a thousandfold."""

_HEADER_BYTES = 2048  # a header has about 20 bytes, and those of statistics, which may be long
_LONGEST_HEADER = 2**20
_DEEPEST = 16
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_UNPACKED, _PACKED, _DATA, _DICTIONARY, _DATA_V2 = 2, 3, 5, 7, 8  # fields of PageHeader
_VALUES = 1  # the number of values, in each kind of page
_ROW_GROUPS, _COLUMNS, _META_DATA = 4, 1, 3  # fields of FileMetaData, RowGroup and ColumnChunk
_NUM_VALUES, _LENGTH, _DATA_OFFSET, _DICTIONARY_OFFSET = 5, 7, 9, 11  # fields of ColumnMetaData


class PageError(UserError):
    """The pages of a Parquet file are not what its footer says."""


@dataclass(frozen=True)
class Chunk:
    """Where one column of one row group lies.

    Attributes:
        values: how many there are.
        start, length: its place in the file, bytes.
    """

    values: int
    start: int
    length: int


@dataclass(frozen=True)
class ChunkSize:
    """What one column of one row group takes.

    Attributes:
        unpacked: bytes of all its pages.
        dictionary: those of its dictionary, each value of which any number of rows may have; 0 without one.
        worst_ratio: the largest unpacked / packed size of a page that unpacks to more than RATIO_FROM_BYTES.
    """

    unpacked: int
    dictionary: int
    worst_ratio: float


def read_chunks(file: BinaryIO) -> list[list[Chunk]]:
    """The column chunks of each row group, in the order of the schema's columns, from the footer of an open file.

    Raises:
        PageError: the footer is damaged.
    """
    file.seek(-8, io.SEEK_END)
    length = int.from_bytes(file.read(4), "little")
    if length > file.tell() - 4:
        raise PageError("the footer is longer than the file")
    file.seek(-8 - length, io.SEEK_END)
    try:
        footer = _Compact(file.read(length)).struct()
    except IndexError:
        raise PageError("the footer is cut off") from None
    return [[_chunk(column) for column in _list(_field(group, _COLUMNS))] for group in _list(footer.get(_ROW_GROUPS))]


def _chunk(column: object) -> Chunk:
    described = _field(column, _META_DATA)
    values, length, start = (_number(_field(described, field)) for field in (_NUM_VALUES, _LENGTH, _DATA_OFFSET))
    dictionary = _field(described, _DICTIONARY_OFFSET)
    if isinstance(dictionary, int) and dictionary > 0:
        start = min(start, dictionary)
    return Chunk(values, start, length)


def _field(struct: object, field: int) -> object:
    return struct.get(field) if isinstance(struct, dict) else None


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise PageError("a column is not described")
    return value


def chunk_size(file: BinaryIO, chunk: Chunk, most_pages: int) -> ChunkSize:
    """Reads the page headers of a column chunk.

    Args:
        file: the Parquet file, open for reading.
        chunk: the footer's description of it.
        most_pages: pages that it may have.

    Raises:
        PageError: the headers are damaged, do not fit the footer, or are too many.
    """
    at, end = chunk.start, chunk.start + chunk.length
    total = pages = values = dictionary_bytes = 0
    worst = 0.0
    while values < chunk.values and at < end:
        header, length = _read_header(file, at)
        unpacked, packed = header.get(_UNPACKED, -1), header.get(_PACKED, -1)
        if not isinstance(unpacked, int) or not isinstance(packed, int) or unpacked < 0 or packed < 0:
            raise PageError("a page has no size")
        dictionary = header.get(_DICTIONARY)
        if isinstance(dictionary, dict):
            dictionary_bytes = max(dictionary_bytes, unpacked)
            if _count(dictionary) > unpacked:
                raise PageError("a dictionary has more values than bytes")
        for kind in (_DATA, _DATA_V2):
            page = header.get(kind)
            values += _count(page) if isinstance(page, dict) else 0
        total, pages = total + unpacked, pages + 1
        if pages > most_pages:
            raise PageError("a column has too many pages")
        if unpacked > RATIO_FROM_BYTES:
            worst = max(worst, unpacked / max(1, packed))
        at += length + packed
    if values != chunk.values:
        raise PageError(f"a column has {values} values in its pages and {chunk.values} by the footer")
    return ChunkSize(total, dictionary_bytes, worst)


def _count(page: dict[int, object]) -> int:
    count = page.get(_VALUES, -1)
    if not isinstance(count, int) or count < 0:
        raise PageError("a page has no number of values")
    return count


def _read_header(file: BinaryIO, at: int) -> tuple[dict[int, object], int]:
    """Fields of the header at this place, and its length."""
    size = _HEADER_BYTES
    while True:
        file.seek(at)
        reader = _Compact(file.read(size))
        try:
            return reader.struct(), reader.at
        except IndexError:
            if size >= _LONGEST_HEADER or len(reader.data) < size:
                raise PageError("a page header is cut off") from None
            size = _LONGEST_HEADER


class _Compact:
    """Thrift's compact protocol, as far as headers need it: numbers and structs are kept, all else is skipped."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def byte(self) -> int:
        value = self.data[self.at]
        self.at += 1
        return value

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 63:
                raise PageError("a number in a page header is too long")

    def number(self) -> int:
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def skip(self, count: int) -> None:
        if self.at + count > len(self.data):
            raise IndexError
        self.at += count

    def fields(self) -> Iterator[tuple[int, int]]:
        identity = 0
        while byte := self.byte():
            identity = identity + (byte >> 4) if byte >> 4 else self.number()
            yield identity, byte & 0x0F

    def struct(self, depth: int = 0) -> dict[int, object]:
        return {identity: self.value(kind, depth) for identity, kind in self.fields()}

    def value(self, kind: int, depth: int, inside: bool = False) -> object:
        """A value of this kind; `inside` a list, a truth value takes a byte of its own."""
        if depth > _DEEPEST:
            raise PageError("a page header is nested too deeply")
        if kind in (_TRUE, _FALSE):
            return self.byte() == _TRUE if inside else kind == _TRUE
        if kind == _BYTE:
            return self.byte()
        if kind in (_I16, _I32, _I64):
            return self.number()
        if kind == _STRUCT:
            return self.struct(depth + 1)
        if kind in (_DOUBLE, _BINARY):
            self.skip(8 if kind == _DOUBLE else self.varint())
            return None
        if kind in (_LIST, _SET):
            head = self.byte()
            count = head >> 4 if head >> 4 < 15 else self.varint()
            return [self.value(head & 0x0F, depth + 1, inside=True) for _ in range(self._sane(count))]
        if kind == _MAP:
            count = self.varint()
            kinds = self.byte() if count else 0
            pairs = ((kinds >> 4, kinds & 0x0F) for _ in range(self._sane(count)))
            return [(self.value(a, depth + 1, True), self.value(b, depth + 1, True)) for a, b in pairs]
        raise PageError("a page header is damaged")

    def _sane(self, count: int) -> int:
        if count > len(self.data):
            raise PageError("a list in a page header is too long")
        return count
