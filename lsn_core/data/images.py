"""The one place that opens untrusted image bytes: an upright RGB picture or an ImageError comes out."""

import logging
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError, features

from lsn_core.data.decoding_cost import CountedReads, TooManyPieces, check_cost, check_pieces, too_many_pieces
from lsn_core.data.formats import FORMATS_IN_WORDS, is_avif, is_heif, kind_of, raw_kind
from lsn_core.data.heif import open_heif
from lsn_core.data.jpeg_end import complete, lacks_end
from lsn_core.data.printable import printable
from lsn_core.data.tiff_tags import read_tags
from lsn_core.data.upright_rgb import upright_rgb
from lsn_core.errors import ImageError, UserError

logger = logging.getLogger(__name__)

# security: Pillow knows some forty formats; some start other programs (EPS), others have rarely exercised parsers.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF", *(["AVIF"] if features.check("avif") else []))
_TILE_TAGS = (322, 323)  # TIFF TileWidth, TileLength

ImageSource = bytes | str | os.PathLike[str] | Image.Image | np.ndarray


@dataclass(frozen=True)
class ImageLimits:
    """How large a picture may be.

    Attributes:
        max_bytes: largest encoded size in bytes, at least 1; default 32 MiB.
        max_pixels: largest width x height, at least 1; default 50 million. Pillow refuses anything above twice
            `PIL.Image.MAX_IMAGE_PIXELS` (179 million) whatever is set here.
        max_memory: most bytes that decoding may take by what the header tells, at least 1; default 400 MiB.

    Raises:
        UserError: a limit is not a positive whole number.
    """

    max_bytes: int = 32 * 2**20
    max_pixels: int = 50_000_000
    max_memory: int = 400 * 2**20

    def __post_init__(self) -> None:
        for limit in fields(self):
            value = getattr(self, limit.name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise UserError(f"ImageLimits.{limit.name} must be a whole number of at least 1, not {value!r}.")


_DEFAULT_LIMITS = ImageLimits()


def open_image(
    source: ImageSource,
    *,
    name: str | None = None,
    limits: ImageLimits = _DEFAULT_LIMITS,
    on_warning: Callable[[str], object] = logger.warning,
) -> Image.Image:
    """Open a picture safely and bring it into the one form that everything else expects.

    EXIF orientation is applied, transparency is laid on white, animations and documents give their first frame.
    16-bit grey is scaled by the range of the fewest bits (8, 10, 12, 14 or 16) that hold its values, as sensors of 12
    bits are stored so. 32-bit integers are taken the same way when they fit and stretched from their smallest to their
    largest value otherwise; floating point is taken as [0, 1] when it fits and stretched
    otherwise, with NaN and infinite pixels black.

    Args:
        source: encoded bytes, a path, a Pillow image (left as it is; its current frame is used), or a uint8 array of
            shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4).
        name: what to call the picture in messages; by default the path as given, or "the image".
        limits: largest size accepted. Bytes are checked before the file is read, pixels before they are decoded.
        on_warning: told, as a sentence, of a picture that is used although its file is not as it should be: a JPEG
            without its end marker.

    Returns:
        A new Pillow image of mode RGB, fully loaded and without metadata; no file stays open.

    Raises:
        ImageError: for anything that cannot be turned into a picture, with the name and a way out.
    """
    if name is None:
        name = os.fspath(source) if isinstance(source, str | os.PathLike) else "the image"
    name = printable(name)
    try:
        if isinstance(source, Image.Image):
            return _normalise(source, name, limits, owned=False)
        if isinstance(source, np.ndarray):
            return _normalise(_from_array(source, name, limits), name, limits, owned=True)
        data = (
            bytes(source)
            if isinstance(source, bytes | bytearray | memoryview)
            else read_image_file(source, name, limits)
        )
        _check_bytes(len(data), name, limits)
        check_pieces(data, name)
        image = _open_header(data, name, limits)
        try:
            _check_pixels(*image.size, name, limits)
            check_cost(image, data, name, limits.max_memory)
            if lacks_end(data):
                return _without_end(data, name, limits, on_warning)
            del data  # Pillow lets its own go once it is decoded
            return _normalise(image, name, limits, owned=True)
        finally:
            image.close()  # at once: some of Pillow's objects hold one another until they are collected
    except UserError:
        raise
    except TooManyPieces as error:
        raise too_many_pieces(name) from error
    except MemoryError as error:
        raise ImageError(f"{name}: not enough memory to decode this image. Make it smaller and try again.") from error
    except Exception as error:
        # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, zlib.error, EOFError and more, and the
        # list grows with every release; on untrusted bytes each of them means the same thing.
        logger.debug("decoding %s failed", name, exc_info=True)
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ImageError(
            f"{name}: the image is damaged or incomplete ({reason}). "
            "Open it in an image editor and save it again, or leave it out."
        ) from error


def pixel_count(data: bytes) -> int:
    """Width x height by the header of an encoded picture; 0 for what is none."""
    try:
        with _open_header(data, "the image", _DEFAULT_LIMITS) as image:
            return image.width * image.height
    except Exception:  # the same kinds as in `open_image`, which tells what they mean
        return 0


def is_clutter(part: str) -> bool:
    """Whether a file or folder name is housekeeping of an operating system (hidden, `__MACOSX`, `Thumbs.db`, ...)."""
    return part.startswith(".") or part.lower() in {"__macosx", "thumbs.db", "desktop.ini"}


def walk_files(
    folder: Path,
    folders_too: Callable[[str], object] | None = None,
    on_error: Callable[[OSError], object] | None = None,
) -> Iterator[str]:
    """Paths of all files below a folder in sorted order, without clutter; linked folders are followed, each once.

    Args:
        folders_too: called with the path of each folder below it.
        on_error: called with the error about each folder that cannot be read, which is left out.
    """
    seen: set[tuple[int, int]] = set()
    for parent, folders, files in os.walk(folder, onerror=on_error, followlinks=True):
        status = os.stat(parent)
        if (status.st_dev, status.st_ino) in seen:  # a link to a folder above it would otherwise never end
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(part for part in folders if not is_clutter(part))
        if folders_too is not None:
            for part in folders:
                folders_too(os.path.join(parent, part))
        yield from (os.path.join(parent, file) for file in sorted(files) if not is_clutter(file))


def read_image_file(path: str | os.PathLike[str], name: str, limits: ImageLimits = _DEFAULT_LIMITS) -> bytes:
    """The bytes of an image file. Raises ImageError where there is none, or it is larger than the limit."""
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise ImageError(f"{name}: this is a folder, not an image. Give the image files inside it.")
        if not stat.S_ISREG(status.st_mode):  # a pipe or a device would block, or never end
            raise ImageError(f"{name}: this is not a regular file. Give an image file.")
        _check_bytes(status.st_size, name, limits)
        with open(path, "rb") as file:
            return file.read(limits.max_bytes + 1)  # the file may have grown since
    except UserError:
        raise
    except FileNotFoundError as error:
        raise ImageError(f"{name}: there is no such file. Check the path.") from error
    except PermissionError as error:
        raise ImageError(f"{name}: no permission to read this file. Change its permissions.") from error
    except (OSError, ValueError) as error:
        raise ImageError(f"{name}: the file cannot be read ({error}). Check the path and the disk.") from error


def _check_bytes(size: int, name: str, limits: ImageLimits) -> None:
    if size == 0:
        raise ImageError(f"{name}: the file is empty. Copy or download it again.")
    if size > limits.max_bytes:
        raise ImageError(
            f"{name}: the file is larger than the limit of {limits.max_bytes / 2**20:.3g} MiB. "
            "Save it smaller or as JPEG, or raise the limit."
        )


def _check_pixels(width: int, height: int, name: str, limits: ImageLimits) -> None:
    if width < 1 or height < 1:
        raise ImageError(f"{name}: the image is {width} x {height} pixels and so has nothing to show. Leave it out.")
    if width * height > limits.max_pixels:
        raise ImageError(
            f"{name}: the image is {width} x {height} pixels, more than the limit of {limits.max_pixels:,} pixels. "
            "Reduce it, or raise the limit."
        )


def _open_header(data: bytes, name: str, limits: ImageLimits) -> ImageFile.ImageFile:
    # security: Image.open reads the header only; _normalise checks the size against our own limit before it decodes.
    # Pillow's DecompressionBombWarning starts at 89 million pixels, above our default; turning it into an error would
    # take warnings.catch_warnings, which changes process-wide state and is not thread safe. Its DecompressionBombError
    # (179 million) is raised while opening, so it is caught here.
    if raw := raw_kind(data, name, lambda: [tag.number for tag in read_tags(data)]):
        raise _unknown_format(name, raw)
    try:
        file = CountedReads(data)
        image = open_heif(file, name) if is_heif(data) else Image.open(file, formats=_FORMATS)
        file.opened()
    except UnidentifiedImageError as error:
        if is_avif(data) and "AVIF" not in _FORMATS:
            kind: tuple[str, str] | None = ("an AVIF picture, which this Pillow was built without", "Update Pillow")
        else:
            kind = kind_of(data, name)
        raise _unknown_format(name, kind) from error
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"{name}: the image has more pixels than the limit of {limits.max_pixels:,} pixels. Reduce it."
        ) from error
    try:
        if image.format == "TIFF":  # security: a tile may be far larger than the picture, and is decoded whole
            tags: Any = getattr(image, "tag_v2", {})
            tile_width, tile_height = (max(1, int(tags.get(tag, 1))) for tag in _TILE_TAGS)
            _check_pixels(tile_width, tile_height, name, limits)
    except BaseException:
        image.close()
        raise
    return image


def _unknown_format(name: str, kind: tuple[str, str] | None) -> ImageError:
    """The error about a file that is no picture, by what it is and what to do, where that is known."""
    if kind is None:
        what, way_out = "this is not an image in a format known here, or its beginning is damaged", ""
    else:
        what, way_out = f"this is {kind[0]}, not an image in a format known here", f"{kind[1]}. "
    return ImageError(f"{name}: {what}. {way_out}Convert it to {FORMATS_IN_WORDS}.")


def _without_end(data: bytes, name: str, limits: ImageLimits, on_warning: Callable[[str], object]) -> Image.Image:
    def decode(mended: bytes) -> Image.Image:
        image = _open_header(mended, name, limits)
        try:
            return _normalise(image, name, limits, owned=True)
        finally:
            image.close()

    picture = complete(data, decode)
    if picture is None:
        raise ImageError(
            f"{name}: the image is damaged or incomplete: a part of it is missing. Copy or download it again, or leave "
            "it out."
        )
    on_warning(f"{name}: this JPEG lacks its end marker, and nothing else; it is used. Save it again to mend it.")
    return picture


def _from_array(array: np.ndarray, name: str, limits: ImageLimits) -> Image.Image:
    shape = array.shape[:2] if array.ndim == 3 and array.shape[2] == 1 else array.shape
    if array.dtype != np.uint8 or not (len(shape) == 2 or (len(shape) == 3 and shape[2] in (3, 4))):
        raise ImageError(
            f"{name}: an array of shape {array.shape} and type {array.dtype} is not an image. "
            "Give uint8 of shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)."
        )
    _check_pixels(shape[1], shape[0], name, limits)
    return Image.fromarray(np.ascontiguousarray(array.reshape(shape)))


def _normalise(image: Image.Image, name: str, limits: ImageLimits, owned: bool) -> Image.Image:
    _check_pixels(*image.size, name, limits)  # security: before load() and copy(), which decode
    sixteen_bit_colour = any("RGB;16" in str(tile[3]) for tile in getattr(image, "tile", []))
    image = image if owned else image.copy()
    image.load()
    return upright_rgb(image, name, sixteen_bit_colour)  # after load(): Pillow turns TIFF upright itself while loading
