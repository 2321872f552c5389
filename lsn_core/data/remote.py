"""Files at an address (hf://datasets/..., s3://...), read in place by fsspec; the page never asks for any."""

from __future__ import annotations

import importlib
import os
import re
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from lsn_core.data.images import printable
from lsn_core.data.sources import DataError, DataLimits, bounded, too_many

_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
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
    """The files at an address: one, or those below a folder, in sorted order.

    Raises:
        DataError: there are none, the address cannot be read, or its kind needs a package that is not installed.
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
    except ImportError as error:
        kind = address.partition("://")[0]
        how = f'pip install "lsn-core[{_EXTRAS[kind]}]"' if kind in _EXTRAS else str(error)
        raise DataError(
            f"{address}: addresses that begin with {kind}:// need a package that is not installed. Install it on all "
            f"machines that are to read there: {how}"
        ) from error
    except Exception as error:  # each file system has errors of its own
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise DataError(f"{address}: the address cannot be read ({reason}). Check it and the network.") from error
    if not found:
        raise DataError(f"{address}: there are no files at this address. Check it.")
    base, root = path.rstrip("/"), address.rstrip("/")
    return [RemoteFile(root + name[len(base) :] if name.startswith(base) else name, name, files) for name in found]


class RemoteFolder:
    """Files at an address as a `FileSource`; each is fetched when it is read.

    Args:
        files: of one address, see `list_remote`.
        limits: what to refuse.
    """

    def __init__(self, address: str, files: list[RemoteFile], limits: DataLimits) -> None:
        if len(files) > limits.max_entries:
            raise too_many(address, limits)
        start = len(address.rstrip("/")) + 1
        self._files, self._limits = files, limits
        self.files = [printable(file.address[start:] or file.name) for file in files]
        parents = {name.rpartition("/")[0] for name in self.files} - {""}
        self.folders = sorted({"/".join(parts[: n + 1]) for parts in map(_parts, parents) for n in range(len(parts))})

    def read(self, position: int) -> bytes:
        """The bytes of a file. Raises DataError when they cannot be had."""
        file, most = self._files[position], self._limits.max_image_bytes
        try:
            data: bytes = file.files.cat_file(file.path, 0, most + 1)
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise DataError(
                f"{printable(str(file))}: the file cannot be read ({reason}). Check the network."
            ) from error
        return bounded(data, self.files[position], self._limits)


def _parts(path: str) -> list[str]:
    return path.split("/")
