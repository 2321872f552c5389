"""From a path to what lies there: the files of a folder or a zip, or the rows of a Parquet file."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

from lsn_core.data.archive import ZipSource
from lsn_core.data.formats import kind_of
from lsn_core.data.images import printable
from lsn_core.data.layout import LAYOUT, Wanted
from lsn_core.data.parquet import ParquetSource
from lsn_core.data.sources import DataError, DataLimits, FileSource, FolderSource
from lsn_core.errors import UserError


def open_source(
    path: str | os.PathLike[str], limits: DataLimits, wanted: Wanted, labelled: bool = True
) -> FileSource | ParquetSource:
    """What lies at a path, listed and not read.

    Args:
        limits: what to refuse.
        wanted: columns of a Parquet file, where they are not clear.
        labelled: whether a Parquet file needs labels.

    Raises:
        UserError: there is nothing, or nothing of these kinds.
    """
    source, where = Path(path), printable(os.fspath(path))
    try:
        if source.is_dir():
            return FolderSource(source, limits)
        if not source.is_file():
            raise DataError(f"{where}: there is no such file or folder. Check the path.")
        with open(source, "rb") as file:
            start = file.read(1024)
        if start.startswith(b"PAR1"):
            return ParquetSource(source, limits, wanted, labelled)
        if start[:2] == b"PK" or zipfile.is_zipfile(source):
            return ZipSource(source, limits)
    except (OSError, ValueError, OverflowError) as error:
        if isinstance(error, UserError):
            raise
        raise DataError(f"{where}: cannot be read ({error}). Check the path and the file.") from error
    kind = kind_of(start, source.name)
    what = f"this is {kind[0]}, and" if kind else "this is"
    raise DataError(f"{where}: {what} neither a folder of class folders, a zip of one, nor a Parquet file. {LAYOUT}")
