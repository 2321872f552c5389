"""Files at an address (hf://datasets/..., s3://...), read in place by fsspec; the page never asks for any."""

from __future__ import annotations

import asyncio
import importlib
import os
import re
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from lsn_core.data.formats import is_picture
from lsn_core.data.images import printable
from lsn_core.data.read_ahead import ReadAhead
from lsn_core.data.sources import DataError, DataLimits, SourceLost, bounded, too_many
from lsn_core.errors import START_AGAIN, UserError

_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
_LOST = 3  # files in a row that the network kept away, each tried several times by what reads the address
_ADDRESS = re.compile(r"^([a-z][a-z0-9+.]+):/{1,3}(?=[^/])")
_OF_THIS_MACHINE = ("file", "local")  # without a host, so that their paths keep their first slash


@dataclass(frozen=True)
class RemoteFile:
    """A file of another file system.

    Attributes:
        address: for messages.
        path: in its file system.
        size: in bytes; None where the list does not tell.
    """

    address: str
    path: str
    files: Any
    size: int | None = None

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rstrip("/").rpartition("/")[2]

    def open(self, mode: str = "rb") -> BinaryIO:
        """The file, of which only the parts that are asked for are fetched.

        Raises:
            SourceLost: it, or later a part of it, cannot be fetched.
        """
        return cast(BinaryIO, _Reader(self, mode))

    def __str__(self) -> str:
        return self.address


class _Reader:
    """An open file whose errors are sentences: some file systems have errors that are none of the system's."""

    def __init__(self, file: RemoteFile, mode: str) -> None:
        self._of = file
        try:
            self._file = file.files.open(file.path, mode)
        except Exception as error:
            raise self._lost(error) from error

    def read(self, size: int = -1) -> bytes:
        try:
            data: bytes = self._file.read(size)
            return data
        except Exception as error:
            raise self._lost(error) from error

    def _lost(self, error: Exception) -> SourceLost:
        return SourceLost(
            f"{printable(str(self._of))}: the file cannot be read ({_reason(error)}). {_advice(error)} {START_AGAIN}"
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def address_of(path: object) -> str | None:
    """The address that a path stands for; None for one of this machine. `Path` takes a slash from "hf://...", too."""
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else ""
    match = _ADDRESS.match(text) if isinstance(text, str) else None
    if match is None or not isinstance(text, str) or os.path.exists(text):
        return None
    return f"{match[1]}://{'/' * (match[1] in _OF_THIS_MACHINE)}{text[match.end() :]}"


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
        infos = {path: files.info(path)} if files.isfile(path) else files.find(path, detail=True)
    except ImportError as error:
        kind = address.partition("://")[0]
        how = f'pip install "lsn-core[{_EXTRAS[kind]}]"' if kind in _EXTRAS else str(error)
        raise DataError(
            f"{address}: addresses that begin with {kind}:// need a package that is not installed. Install it on all "
            f"machines that are to read there: {how}"
        ) from error
    except Exception as error:  # each file system has errors of its own
        raise DataError(f"{address}: the address cannot be read ({_reason(error)}). {_advice(error)}") from error
    found = {name: info.get("size") for name, info in sorted(infos.items()) if not name.endswith("/")}
    if not found:
        raise DataError(f"{address}: there are no files at this address. Check it.")
    base, root = path.rstrip("/"), address.rstrip("/")
    return [
        RemoteFile(root + name[len(base) :] if name.startswith(base) else name, name, files, size)
        for name, size in found.items()
    ]


def _reason(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _advice(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "Check that it is there."
    if isinstance(error, PermissionError):
        return "Check the credentials of this machine, and what they may read."
    return "Check the address, the credentials of this machine and the network."


def check_here(**paths: str | os.PathLike[str] | None) -> None:
    """Raises UserError where one of these paths, by the names of their options, is an address, to be written to."""
    for option, path in paths.items():
        if (address := address_of(path)) is not None:
            raise UserError(
                f"--{option.replace('_', '-')} {address}: nothing is written to addresses, where a file may be "
                "left half written. Give a path on this machine, and copy the file when it is whole."
            )


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
        self._address, self._files, self._limits = address, files, limits
        self._lock, self._failed = threading.Lock(), 0
        pictures = [index for index, file in enumerate(files) if is_picture(file.name)]
        self._ahead = ReadAhead(self._fetch, pictures) if files and files[0].files.async_impl else None
        self.files = [printable(file.address[start:] or file.name) for file in files]
        parents = {name.rpartition("/")[0] for name in self.files} - {""}
        self.folders = sorted({"/".join(parts[: n + 1]) for parts in map(_parts, parents) for n in range(len(parts))})

    def read(self, position: int) -> bytes:
        """The bytes of a file.

        Raises:
            DataError: they cannot be had.
            SourceLost: nor could those of the files before, as the address can no longer be reached.
        """
        file, most = self._files[position], self._limits.max_image_bytes
        if file.size == 0:
            return b""  # of which no part can be asked for
        try:
            data: bytes = (
                file.files.cat_file(file.path, start=0, end=most + 1)
                if self._ahead is None or not is_picture(file.name)
                else self._ahead.read(position)
            )
        except Exception as error:
            if not isinstance(error, FileNotFoundError | PermissionError):
                self._count(error)
            where = printable(str(file))
            raise DataError(f"{where}: the file cannot be read ({_reason(error)}). {_advice(error)}") from error
        with self._lock:
            self._failed = 0
        return bounded(data, self.files[position], self._limits)

    def _fetch(self, position: int) -> Future[bytes]:
        file = self._files[position]
        if file.size == 0:
            nothing: Future[bytes] = Future()
            nothing.set_result(b"")
            return nothing
        coming = file.files._cat_file(file.path, start=0, end=self._limits.max_image_bytes + 1)
        return asyncio.run_coroutine_threadsafe(coming, file.files.loop)

    def _count(self, error: Exception) -> None:
        with self._lock:
            self._failed += 1
            if self._failed < _LOST:
                return
        raise SourceLost(
            f"{self._address}: {_LOST} files in a row cannot be read ({_reason(error)}). {_advice(error)} {START_AGAIN}"
        ) from error


def _parts(path: str) -> list[str]:
    return path.split("/")
