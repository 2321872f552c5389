"""Tables of labels beside images: labels.csv, metadata.jsonl, train.csv and such, matched with the images they name."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Protocol

from lsn_core.class_names import composed
from lsn_core.data.sources import DataError

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl")
_LABEL_COLUMNS = """
label_name class_name category_name fine_label_name label labels class classes cls category target species breed
fine_label coarse_label y
"""
_SPLIT_COLUMNS = ("split", "subset", "partition")
_FILE_COLUMNS = ("file_name", "filename", "file", "image", "image_name", "image_path", "image_id", "path", "img", "id")
_TRIED = 200  # rows that tell which column names the images
_MOST_COLUMNS = 1000
_LONGEST_LINE = 2**16  # letters


class ImageIndex:
    """Finds images by what tables call them: a path from the table's folder or any other, with or without ending.

    Args:
        paths: position -> parts of the path from the data set's root.
        folder: parts of the table's own folder.
    """

    def __init__(self, paths: Mapping[int, tuple[str, ...]], folder: tuple[str, ...]) -> None:
        self._by_path: dict[str, int | None] = {}
        self._by_end: dict[str, int | None] = {}
        depth = len(folder)
        for position, parts in paths.items():
            parts = tuple(_folded(part) for part in parts)
            for path in ("/".join(parts), "/".join(parts[depth:])):
                _note(self._by_path, path, position)
                _note(self._by_path, path.rpartition(".")[0], position)
            for end in (parts[-1], parts[-1].rpartition(".")[0]):
                _note(self._by_end, end, position)

    def find(self, name: str) -> int | None:
        """Position of the image of this name, in any case; None where there is none, or there are several."""
        path = _folded(name.strip().replace("\\", "/").removeprefix("./").strip("/"))
        found = self._by_path.get(path)
        return found if found is not None else self._by_end.get(path.rpartition("/")[2])


def _folded(name: str) -> str:
    return composed(name).lower()


def _note(places: dict[str, int | None], name: str, position: int) -> None:
    """Where a name is; None where several images have it."""
    places[name] = None if places.get(name, position) != position else position


class Columns(Protocol):
    """Names of columns; None for those whose names say so."""

    @property
    def image_column(self) -> str | None:
        """The column of images, or of their names."""

    @property
    def label_column(self) -> str | None:
        """The column of labels."""


@dataclass(frozen=True)
class LabelTable:
    """What a table says of the images.

    Attributes:
        name: of the file.
        labels: position of an image -> its label.
        splits: position of an image -> its split; empty where the table has no such column.
        missing: rows that name no image, or have no label.
    """

    name: str
    labels: dict[int, str]
    splits: dict[int, str]
    missing: int


def read_label_table(name: str, data: bytes, images: ImageIndex, columns: Columns) -> LabelTable | None:
    """The labels of images in a table; None where it names no image or has no labels.

    Args:
        name: of the file, which tells its kind.
        data: its bytes; CSV with commas, semicolons or tabs, or JSON lines.
        columns: of the file names and the labels, where they are named; else the column that names images, and the one
            whose name says that it has labels, or is the only other one.

    Raises:
        DataError: it cannot be read, has several columns that may be the labels, or says two things of one image.
    """
    rows = _json_rows(name, data) if name.lower().endswith(".jsonl") else _csv_rows(name, data)
    first = list(islice(rows, 1 + _TRIED))
    if not first or len(first[0]) < 2:
        return None
    header = [cell.strip() for cell in first[0]]
    matches = [sum(_found(images, row, c) for row in first[1:]) for c in range(len(header))]
    named = {c for c, cell in enumerate(header) if cell.lower() in _FILE_COLUMNS}
    file_column = max(range(len(header)), key=lambda c: (matches[c], c in named, -c))
    if columns.image_column is not None:
        file_column = _find_column(name, header, columns.image_column)
    headless = not named and any(images.find(cell) is not None for cell in header)
    if not matches[file_column] and not headless:
        return None
    if headless:
        file_column = next(c for c, cell in enumerate(header) if images.find(cell) is not None)
        header = [str(c) for c in range(len(header))]
    column = _label_column(name, header, file_column, columns.label_column)
    if column is None:
        return None
    split = next((c for c, cell in enumerate(header) if cell.lower() in _SPLIT_COLUMNS and c != column), None)
    table = LabelTable(name, {}, {}, 0)
    missing = 0
    for number, row in enumerate(chain(first[0 if headless else 1 :], rows), start=1 if headless else 2):
        position = images.find(row[file_column]) if file_column < len(row) else None
        label = row[column].strip() if column < len(row) else ""
        if position is None or not label:
            missing += 1
            continue
        if table.labels.setdefault(position, label) != label:
            raise DataError(
                f"{name}: line {number} calls {row[file_column]} {label!r}, an earlier one {table.labels[position]!r}. "
                "An image has one class here: correct the table, or leave such images out."
            )
        if split is not None and split < len(row):
            table.splits[position] = row[split].strip()
    return LabelTable(name, table.labels, table.splits, missing) if table.labels else None


def _found(images: ImageIndex, row: Sequence[str], column: int) -> bool:
    return column < len(row) and images.find(row[column]) is not None


def _label_column(name: str, header: Sequence[str], file_column: int, wanted: str | None) -> int | None:
    lower = [cell.lower() for cell in header]
    if wanted is not None:
        return _find_column(name, header, wanted)
    for known in _LABEL_COLUMNS.split():
        if known in lower and lower.index(known) != file_column:
            return lower.index(known)
    others = [c for c in range(len(header)) if c != file_column and lower[c] not in (*_SPLIT_COLUMNS, "", "index")]
    if len(others) == 1 and lower[others[0]] not in ("text", "caption", "prompt", "width", "height"):
        return others[0]
    return None


def _find_column(name: str, header: Sequence[str], wanted: str) -> int:
    lower = [cell.lower() for cell in header]
    if wanted.lower() not in lower:
        raise DataError(f"{name}: there is no column {wanted!r}; there are {', '.join(header[:20])}.")
    return lower.index(wanted.lower())


def _csv_rows(name: str, data: bytes) -> Iterator[list[str]]:
    """One at a time: a table takes many times its bytes as lists."""
    text = _text(name, data)
    first = text.partition("\n")[0]
    delimiter = max("\t" if name.lower().endswith(".tsv") else ",", ";", "\t", "|", key=first.count)
    csv.field_size_limit(_LONGEST_LINE)
    lines = (_bounded(name, line) for line in io.StringIO(text, newline=""))
    try:
        for row in csv.reader(lines, delimiter=delimiter):
            if any(row):
                yield row[:_MOST_COLUMNS]
    except csv.Error as error:
        raise DataError(f"{name}: the table cannot be read ({error}). Write it again as CSV.") from error


def _json_rows(name: str, data: bytes) -> Iterator[list[str]]:
    """The keys of the first object, then the values of each."""
    header: list[str] = []
    for number, line in enumerate(io.StringIO(_text(name, data)), start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(_bounded(name, line))
        except (ValueError, RecursionError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{name}: line {number} is no JSON ({error}). Write the file again.") from error
        if not isinstance(entry, dict):
            raise DataError(f"{name}: line {number} is no JSON object. Write one for each image.")
        if not header:
            header = list(entry)[:_MOST_COLUMNS]
            yield header
        yield ["" if (value := entry.get(key)) is None else str(value) for key in header]


def _bounded(name: str, line: str) -> str:
    if len(line) > _LONGEST_LINE:
        raise DataError(
            f"{name}: it has a line of {len(line):,} letters. Write the table with one line for each image."
        )
    return line


def _text(name: str, data: bytes) -> str:
    for encoding in ["utf-16"] if data.startswith((b"\xff\xfe", b"\xfe\xff")) else ["utf-8-sig", "cp1252", "latin-1"]:
        try:
            return data.decode(encoding).replace("\0", "")
        except UnicodeDecodeError:
            continue
    raise DataError(f"{name}: this is no text. Write the table again as CSV in UTF-8.")
