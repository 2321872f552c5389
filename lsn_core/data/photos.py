"""Photos of which no class is needed: to be scored, to calibrate with, or as photos of none of the classes."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from lsn_core.data.collection import ImageList, join, list_files
from lsn_core.data.formats import describe_others, is_picture, not_read, suffix
from lsn_core.data.images import printable
from lsn_core.data.layout import Wanted
from lsn_core.data.opening import open_source
from lsn_core.data.remote import address_of
from lsn_core.data.sources import DataError, DataLimits, FolderSource, Rows

logger = logging.getLogger(__name__)

_DEFAULT_LIMITS = DataLimits()
_SETS = (b"PK\3\4", b"PK\5\6", b"PAR1")
_SET_SUFFIXES = (".zip", ".parquet")
_PICTURES = (b"\xff\xd8", b"\x89PNG", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*")


def load_photos(
    path: str | os.PathLike[str], limits: DataLimits = _DEFAULT_LIMITS, *, image_column: str | None = None
) -> ImageList:
    """Photos without their classes, listed and not read.

    Args:
        path: a folder or a zip with photos in any folders or none, a Parquet file or a folder of them, with or without
            labels, an address of a folder or Parquet files for fsspec (s3://..., hf://datasets/...), or one photo.
        limits: what to refuse.
        image_column: name of the column of a Parquet file, where it is not clear.

    Returns:
        The photos in sorted order (rows in file order), named by their paths inside. A folder in it that cannot be
        read stands at the end as a photo that cannot be.

    Raises:
        UserError: there are none, or what is there is not acceptable.
    """
    where = printable(os.fspath(path))
    if _is_one_file(Path(path)):
        return list_files([path])
    source = open_source(path, limits, Wanted(image_column=image_column), labelled=False)
    if isinstance(source, Rows):
        return ImageList(tuple(source.names), source.read)
    unread = source.unread if isinstance(source, FolderSource) else {}
    pictures = [index for index, name in enumerate(source.files) if is_picture(name)]
    if len(pictures) < len(source.files):
        chosen = set(pictures)
        others = [name for index, name in enumerate(source.files) if index not in chosen]
        if not pictures and any(not_read(name) for name in others):
            raise DataError(f"{where}: there are no image files that are read; {describe_others(others)}.")
        if pictures:
            logger.warning("%s: %s.", where, describe_others(others))
    if not pictures and not unread:
        raise DataError(
            f"No images were found in {where}: it has no image files. Give photos, or a folder or zip of them."
        )
    pictures.sort(key=lambda index: source.files[index])
    photos = ImageList(tuple(source.files), source.read).subset(pictures)
    return join([photos, ImageList(tuple(unread), partial(_refuse, [*unread.values()]))]) if unread else photos


def _refuse(errors: Sequence[DataError], index: int) -> bytes:
    raise errors[index]


def open_photos(
    paths: Sequence[str | os.PathLike[str]], limits: DataLimits = _DEFAULT_LIMITS, *, image_column: str | None = None
) -> ImageList:
    """What several paths stand for, with names by which each can be found: its path, or archive and path inside.

    Args:
        paths: photos, and whatever `load_photos` takes. A photo that is not there is kept, so that it gets an error of
            its own.
        limits, image_column: as for `load_photos`.

    Raises:
        UserError: a folder, zip or Parquet file has no photos or cannot be used.
    """
    parts = []
    for path in paths:
        if address_of(path) is None and (_is_one_file(Path(path)) or not Path(path).exists()):
            parts.append(list_files([path]))
            continue
        photos = load_photos(path, limits, image_column=image_column)
        root = (address_of(path) or printable(os.fspath(path))).rstrip("/")
        if photos.names == (root.rpartition("/")[2],):  # the address of one photo
            root = root.rpartition("/")[0]
        parts.append(replace(photos, names=tuple(f"{root}/{name}" for name in photos.names)))
    return parts[0] if len(parts) == 1 else join(parts)


def _is_one_file(path: Path) -> bool:
    """Whether this is a file that is no set of photos; a wrong one is told by whoever opens it."""
    try:
        if not path.is_file():
            return False
        with open(path, "rb") as file:
            start = file.read(4)
        # Without its beginning, it is a damaged one by its name, unless it is a picture by another's.
        return not start.startswith(_SETS) and (suffix(path.name) not in _SET_SUFFIXES or start.startswith(_PICTURES))
    except (OSError, ValueError):
        return True
