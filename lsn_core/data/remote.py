"""Parquet files at an address (hf://datasets/..., s3://...), read in place by fsspec; the page never asks for any."""

from __future__ import annotations

import importlib
import os
import re
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from lsn_core.data.sources import DataError

_ADDRESS = re.compile(r"^([a-z][a-z0-9+.]+):/{1,2}(?=[^/])")


@dataclass(frozen=True)
class RemoteFile:
    """A file of another file system.

    Attributes:
        address: for messages.
        path: in its file system.
    """

    address: str
    path: str
    files: Any

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rstrip("/").rpartition("/")[2]

    def open(self, mode: str = "rb") -> BinaryIO:
        """The file, of which only the parts that are asked for are fetched."""
        return cast(BinaryIO, self.files.open(self.path, mode))

    def __str__(self) -> str:
        return self.address


def address_of(path: object) -> str | None:
    """The address that a path stands for; None for one of this machine. `Path` takes a slash from "hf://...", too."""
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else ""
    match = _ADDRESS.match(text) if isinstance(text, str) else None
    return (
        None
        if match is None or not isinstance(text, str) or os.path.exists(text)
        else f"{match[1]}://{text[match.end() :]}"
    )


def list_remote(address: str) -> list[RemoteFile]:
    """The Parquet files at an address: one, or those below a folder, in sorted order.

    Raises:
        DataError: there are none, or the address cannot be read.
    """
    try:
        fsspec = importlib.import_module("fsspec")
    except ImportError as error:
        raise DataError(
            f"{address}: addresses are read by the package fsspec. Install it (pip install fsspec)."
        ) from error
    try:
        files, path = fsspec.core.url_to_fs(address)
        found = [path] if files.isfile(path) else sorted(files.find(path))
    except Exception as error:  # each file system has errors of its own, and most need a package of their own
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise DataError(f"{address}: the address cannot be read ({reason}). Check it and the network.") from error
    tables = [name for name in found if name.endswith(".parquet")]
    if not tables:
        raise DataError(
            f"{address}: there are no Parquet files at this address. Download other sets and give the folder."
        )
    base = path.rstrip("/")
    return [RemoteFile(address + name[len(base) :] if name.startswith(base) else name, name, files) for name in tables]
