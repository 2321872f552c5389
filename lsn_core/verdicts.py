"""Verdicts on many images as files for other tools: CSV, JSON lines, Parquet; and the unknown images as a folder."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from lsn_core.atomic import not_written, written_beside
from lsn_core.errors import UserError
from lsn_core.parquet_rows import open_parquet_rows

COLUMNS = ("file", "verdict", "predicted_class", "score", "threshold", "calibrated", "p_value", "score_name", "error")
_FORMULA = re.compile(r"(?P<before>(?:^|[;,|\t\r\n\x0b\x0c\x85\u2028\u2029])\s*)(?P<sign>[=+\-@＝＋－＠]|^[\t\r\n])")


def safe_cell(value: object) -> object:
    """A value of a CSV table that no spreadsheet runs as a formula; None, numbers and most texts stay as they are."""
    # security: names come from anybody. Some spreadsheets split lines at semicolons or tabs whatever the quotes, drop
    # spaces before, and take wide signs for narrow ones.
    return _FORMULA.sub(r"\g<before>'\g<sign>", value) if isinstance(value, str) else value


class Writer(Protocol):
    """Takes the lines of `score --json`, one by one."""

    def __call__(self, line: Mapping[str, Any]) -> None: ...


@contextmanager
def open_writer(path: Path) -> Iterator[Writer]:
    """A file of verdicts, which is there when all of them are: written beside and renamed at the end.

    Args:
        path: .csv and .parquet get `COLUMNS`, .jsonl each line whole.

    Raises:
        UserError: the ending is another, the file cannot be written, or another process is writing it.
    """
    kind = path.suffix.lower()
    if kind not in _WRITERS:
        raise UserError(
            f"{path}: verdicts are written as {', '.join(_WRITERS)}, by the ending of the file's name; "
            "for labelling tools see --format."
        )
    with written_beside(path) as temporary, _WRITERS[kind](temporary) as write:
        yield write


@contextmanager
def _csv(path: Path) -> Iterator[Writer]:
    with open(path, "w", encoding="utf-8-sig", newline="") as file:  # the mark tells spreadsheets that it is UTF-8
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(COLUMNS)
        yield lambda line: rows.writerow([safe_cell(line[name]) for name in COLUMNS])


@contextmanager
def _jsonl(path: Path) -> Iterator[Writer]:
    with open(path, "w", encoding="utf-8") as file:

        def write(line: Mapping[str, Any]) -> None:
            file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")

        yield write


@contextmanager
def _parquet(path: Path) -> Iterator[Writer]:
    import pyarrow as pa

    numbers = {"score": pa.float64(), "threshold": pa.float64(), "p_value": pa.float64(), "calibrated": pa.bool_()}
    with open_parquet_rows(path, pa.schema([(name, numbers.get(name, pa.string())) for name in COLUMNS])) as write_row:

        def write(line: Mapping[str, Any]) -> None:
            write_row({name: line[name] for name in COLUMNS})

        yield write


_WRITERS = {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}


class Folder:
    """A folder that images are copied to, with their names and the folders that tell them apart.

    Args:
        path: must be empty or not there.
        names: of all images that may come; what their folders have in common is left out.

    Raises:
        UserError: something is in the folder.
    """

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UserError(f"{path} is not empty. Name a new folder for the unknown images.")
        self._path = path
        folders = {PurePosixPath(name.replace("\\", "/")).parent.as_posix() for name in names}
        shared = os.path.commonpath(folders) if len({os.path.isabs(folder) for folder in folders}) == 1 else ""
        self._shared = len(PurePosixPath(shared).parts)

    def put(self, name: str, data: bytes) -> Path:
        """Writes one image; returns where. Raises UserError where the system does not let it."""
        parts = PurePosixPath(name.replace("\\", "/")).parts[self._shared :]
        # security: names in a zip or a Parquet file are anybody's.
        safe = [part for part in parts if part not in ("..", ".", "/") and not part.endswith(":")]
        target = self._path.joinpath(*safe)
        number = 1
        while target.exists():
            number += 1
            target = target.with_name(f"{Path(safe[-1]).stem} ({number}){Path(safe[-1]).suffix}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        except OSError as error:
            raise not_written(target, error) from error
        return target
