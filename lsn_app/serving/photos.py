"""Photos that somebody gave: where they are kept, what they were called, and their bytes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from lsn_core import UserError
from lsn_core.data.images import ImageLimits

_LIMITS = ImageLimits()


@dataclass(frozen=True)
class Photo:
    """A photo somebody gave: where the server keeps it, what it was called, and the SHA-256 of its bytes."""

    path: str
    name: str
    sha256: str


def read_photo(path: str, name: str) -> Photo:
    """A photo by its path; it is decoded when first encoded. Raises UserError as `read_file` does."""
    return Photo(path, name, hashlib.sha256(read_file(path, name)).hexdigest())


def read_file(path: str, name: str) -> bytes:
    """The bytes of a file that was uploaded as a photo. Raises UserError for one that is too large or gone."""
    try:
        if Path(path).stat().st_size > _LIMITS.max_bytes:
            raise UserError(f"{name}: the file is larger than the limit of {_LIMITS.max_bytes / 2**20:.3g} MiB.")
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{name}: the photo is no longer on the server. Upload it again.") from error
