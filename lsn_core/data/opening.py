"""From a path to what lies there: the files of a folder or a zip, or the rows of a Parquet file."""

from __future__ import annotations

import logging
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lsn_core.data.archive import ZipSource
from lsn_core.data.formats import is_picture, kind_of, suffix
from lsn_core.data.images import printable
from lsn_core.data.layout import LAYOUT, Wanted
from lsn_core.data.remote import RemoteFolder, address_of, list_remote
from lsn_core.data.sources import DataError, DataLimits, FileSource, FolderSource, Rows
from lsn_core.errors import UserError

logger = logging.getLogger(__name__)

_MEANT = {".zip": "zip archive", ".parquet": "Parquet file"}

# What reads Parquet is imported where there is some: photos alone need no pyarrow.


def open_source(path: Any, limits: DataLimits, wanted: Wanted, labelled: bool = True) -> FileSource | Rows:
    """What lies at a path, listed and not read.

    Args:
        path: of this machine, an address that fsspec knows, or a `datasets.Dataset`.
        limits: what to refuse.
        wanted: columns of a Parquet file, where they are not clear.
        labelled: whether a Parquet file needs labels.

    Raises:
        UserError: there is nothing, or nothing of these kinds.
    """
    if is_dataset(path):
        from lsn_core.data.hub_dataset import DatasetRows

        return DatasetRows(path, limits, wanted, labelled)
    if (address := address_of(path)) is not None:
        return _open_remote(address, limits, wanted, labelled)
    source, where = Path(path), printable(os.fspath(path))
    try:
        if source.is_dir():
            folder = FolderSource(source, limits)
            tables = [index for index, name in enumerate(folder.files) if suffix(name) == ".parquet"]
            shards_only = tables and not any(map(is_picture, folder.files))
            for error in folder.unread.values() if labelled or shards_only else ():  # photos get lines of their own
                logger.warning("%s", error)
            if shards_only:
                from lsn_core.data.shards import ParquetShards

                shards = [(folder.files[index], folder.path(index)) for index in tables]
                return ParquetShards(shards, where, limits, wanted, labelled)
            return folder
        if not source.is_file():
            raise DataError(f"{where}: there is no such file or folder. Check the path.")
        with open(source, "rb") as file:
            start = file.read(1024)
        if start.startswith(b"PAR1"):
            from lsn_core.data.parquet import ParquetSource

            return ParquetSource(source, limits, wanted, labelled)
        if start[:2] == b"PK" or zipfile.is_zipfile(source):
            return ZipSource(source, limits)
    except (OSError, ValueError, OverflowError) as error:
        if isinstance(error, UserError):
            raise
        raise DataError(f"{where}: cannot be read ({error}). Check the path and the file.") from error
    if not start:
        raise DataError(f"{where}: the file is empty. Copy or download it again.")
    kind = kind_of(start, source.name)
    if kind is None and (meant := _MEANT.get(suffix(source.name))):
        raise DataError(f"{where}: this is no {meant}, though its name says so. Copy or download it again.")
    what = f"this is {kind[0]}, and" if kind else "this is"
    raise DataError(f"{where}: {what} neither a folder of class folders, a zip of one, nor a Parquet file. {LAYOUT}")


def _open_remote(address: str, limits: DataLimits, wanted: Wanted, labelled: bool) -> FileSource | Rows:
    files = list_remote(address)
    tables = [file for file in files if suffix(file.name) == ".parquet"]
    if any(is_picture(file.name) for file in files):
        return RemoteFolder(address, files, limits)
    if not tables:
        raise DataError(
            f"{address}: there are no photos and no Parquet files at this address. Download sets of other kinds, "
            "such as zips, and give the file or folder."
        )
    from lsn_core.data.shards import ParquetShards

    return ParquetShards(
        [(file.address.removeprefix(address.rstrip("/")), file) for file in tables], address, limits, wanted, labelled
    )


def is_dataset(data: object) -> bool:
    """Whether this is a `datasets.Dataset`, or a `DatasetDict` of them."""
    if isinstance(data, Mapping):
        return bool(data) and all(map(is_dataset, data.values()))
    return all(hasattr(data, name) for name in ("features", "column_names", "with_format", "select_columns"))
