"""Image files in a zip archive, read in place and guarded against what archives can do."""

import os
import stat
import zipfile
import zlib
from io import BufferedReader, FileIO
from pathlib import Path

from lsn_core.data.images import is_clutter, printable
from lsn_core.data.sources import DataError, DataLimits, bounded, too_many
from lsn_core.errors import UserError

_RATIO_FROM_BYTES = 2**20  # small plain pictures honestly compress a thousandfold
_UTF8_FLAG, _UNICODE_PATH = 0x800, 0x7075
_DIRECTORY_BYTES_PER_ENTRY = 512  # 46 bytes and a path


class ZipSource:
    """The files of a zip archive, read in place: nothing is written to disk."""

    def __init__(self, path: Path, limits: DataLimits) -> None:
        self.limits, self._path = limits, path
        self._archive, self._process = self._open(), os.getpid()
        entries = self._archive.infolist()
        if len(entries) > limits.max_entries:
            raise too_many(path, limits)
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
            raise too_many(self._path, self.limits) from error
        except Exception as error:  # zipfile gives BadZipFile, struct.error, ValueError, EOFError, ... on bad bytes
            raise DataError(f"{self._path}: the zip archive is damaged ({error}). Make it again.") from error

    def _checked_parts(self, entry: zipfile.ZipInfo) -> list[str]:
        # security: names are only ever shown, but an archive that tries these is not one to go on with.
        name = _true_name(entry).replace("\\", "/")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        where = f"{self._path}: the entry {printable(name)!r}"
        if name.startswith("/") or name[1:2] == ":" or ".." in parts or "\0" in name:
            raise DataError(f"{where} points outside the archive. Make it again from relative paths.")
        if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise DataError(f"{where} is a link or a device. Make the archive again from the files themselves.")
        if entry.flag_bits & 0x41:
            raise DataError(f"{where} is encrypted. Make the archive again without a password.")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # the others unpack without bounds
            raise DataError(f"{where} uses an unusual compression. Make the archive again with plain zip (deflate).")
        if entry.file_size > max(_RATIO_FROM_BYTES, entry.compress_size * self.limits.max_ratio):
            raise DataError(f"{where} unpacks to more than {self.limits.max_ratio} times its size. Leave it out.")
        return [printable(part) for part in parts]

    def read(self, position: int) -> bytes:
        entry, name = self._entries[position], self.files[position]
        if self._process != os.getpid():  # after a fork, the file offset would be shared with the parent
            self._archive, self._process = self._open(), os.getpid()
        try:
            with self._archive.open(entry) as file:
                return bounded(file.read(self.limits.max_image_bytes + 1), name, self.limits)
        except UserError:
            raise
        except Exception as error:  # BadZipFile, zlib.error, EOFError, NotImplementedError, ... on bad bytes
            raise DataError(f"{name}: damaged in the archive ({error}). Make the archive again.") from error


def _true_name(entry: zipfile.ZipInfo) -> str:
    """The name as it was meant: archives of macOS have UTF-8 without the flag that says so (bit 11).

    zipfile reads such names as code page 437; bytes that are UTF-8 are taken as that, others stay with the code page.
    An Info-ZIP Unicode path (extra field 0x7075) counts most.
    """
    name = entry.orig_filename
    if entry.flag_bits & _UTF8_FLAG:
        return name
    try:
        raw = name.encode("cp437")
    except UnicodeEncodeError:
        return name
    extra = entry.extra
    while len(extra) >= 4:
        kind, size = int.from_bytes(extra[:2], "little"), int.from_bytes(extra[2:4], "little")
        if kind == _UNICODE_PATH and size > 5 and int.from_bytes(extra[5:9], "little") == zlib.crc32(raw):
            raw = extra[9 : 4 + size]
            break
        extra = extra[4 + size :]
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return name


class _DirectoryTooLarge(Exception):
    pass


class _DirectoryGuard(BufferedReader):
    # security: zipfile reads the whole directory and makes an object for each entry before anyone can count them.
    largest_read: int | None = None

    def read(self, size: int | None = -1, /) -> bytes:
        if self.largest_read is not None and size is not None and size > self.largest_read:
            raise _DirectoryTooLarge
        return super().read(size)
