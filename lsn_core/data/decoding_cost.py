"""What decoding an image file would cost, told from its header: such that cost more than they should are refused.

A file of a few hundred kilobytes can ask for minutes of work (a progressive JPEG of thousands of scans) or for a
gigabyte (a TIFF whose one strip is the whole picture), so its own size says nothing.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from typing import Any

from PIL import Image, ImageFile

from lsn_core.data.heif import coded_pixels
from lsn_core.data.tiff_tags import STRIP_OFFSETS, TILE_OFFSETS, read_tags
from lsn_core.errors import ImageError

MAX_SCANS = 100
"""Of a JPEG. Encoders write 10 to 14."""

MAX_SCANNED_PIXELS = 1_500_000_000
"""Scans of a progressive JPEG times its pixels."""

MAX_READS = 200_000
"""Reads from a file while it is decoded: each part of a PNG takes a few."""

_OPENING_READS = 10_000  # while it is opened: each chunk of a PNG and each block of a GIF's comment takes a few
_MAX_STRIPS = 200_000  # or tiles, of a TIFF
_MAX_PACKED = 200  # compressed texts and profiles of a PNG, each of which may unpack to a megabyte; most have one
_PACKED = (b"iCCP", b"zTXt", b"iTXt")
_FAX, _MAX_FAX_ROWS = (2, 3, 4, 32771), 20_000  # the decoder writes a line to the terminal for each row that is wrong
_MAX_SEGMENTS, _MAX_EXIF, _MAX_PHOTOSHOP = 5000, 64, 32  # of a JPEG; full ones have 64 KiB
_BYTES_OF_MODE = {"1": 1, "L": 1, "P": 1}  # of a pixel in Pillow's memory; 4 where nothing else is said
_ROW_BYTES = 8  # Pillow keeps a pointer to each row
_HEIF_BYTES = {"HEIF": 4, "AVIF": 6}  # of a coded pixel: planes of brightness and colour, and RGB made of them
_MOST_CODED = 6  # the picture, its tiles, and both for its alpha, rounded up to whole tiles
_STAND_ALONE = {0x01, *range(0xD0, 0xDA)}  # JPEG markers without a length
_EXIF, _PNG = b"Exif\0\0", b"\x89PNG\r\n\x1a\n"
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


class CountedReads(io.BytesIO):
    """The bytes of a file, which can be read so many times: what is made of millions of pieces ends there.

    Pillow joins the pieces of some metadata one by one, and copies what several tags share for each of them, so that
    both the number of reads and the bytes read are bounded.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._reads, self._bytes = _OPENING_READS, 3 * len(data) + 2**20

    def opened(self) -> None:
        """The header was read; what follows is the picture itself."""
        self._reads = MAX_READS

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self._reads -= 1
        self._bytes -= len(data)
        if self._reads < 0 or self._bytes < 0:
            raise TooManyPieces
        return data


class TooManyPieces(Exception):
    """An image file has more pieces than any honest one."""


def check_pieces(data: bytes, name: str) -> None:
    """Raises ImageError for a JPEG, PNG or TIFF of too many pieces, which would take long even to open.

    Args:
        data: the encoded bytes.
        name: what to call the picture in messages.
    """
    exif = data
    if data[:2] == b"\xff\xd8":
        scans, fine, exif = _jpeg_parts(data)
        if scans > MAX_SCANS:
            raise ImageError(
                f"{name}: this JPEG is made of more than {MAX_SCANS} scans, which would take very long to decode. Save "
                "it again in an image editor."
            )
        if not fine:
            raise too_many_pieces(name)
    if data[:8] == _PNG and sum(data.count(kind) for kind in _PACKED) > _MAX_PACKED:
        raise too_many_pieces(name)
    tags = read_tags(exif)
    strips = max((tag.values for tag in tags if tag.number in (STRIP_OFFSETS, TILE_OFFSETS)), default=0)
    if strips > _MAX_STRIPS or sum(tag.size for tag in tags) > 2 * len(exif) + 2**16:
        raise too_many_pieces(name)


def check_cost(image: ImageFile.ImageFile, data: bytes, name: str, max_memory: int) -> None:
    """Raises ImageError for a picture whose decoding would take too long or too much memory.

    Args:
        image: opened, but not decoded.
        data: the encoded bytes.
        name: what to call it in messages.
        max_memory: bytes that the file, the decoder and two pictures may take.
    """
    pixels = image.width * image.height
    decoder = 0
    if image.format in ("JPEG", "MPO"):
        scans = _jpeg_parts(data)[0]
        if scans > 1:
            decoder = _coefficient_bytes(image)  # all of them, until the last scan is read
        if scans > 1 and scans * pixels > MAX_SCANNED_PIXELS:
            raise ImageError(
                f"{name}: this JPEG has {pixels:,} pixels in {scans} scans, which would take very long to decode. Save "
                "it again as a baseline JPEG, or reduce it."
            )
    elif image.format == "WEBP":
        decoder = 12 * pixels  # two canvases and the frame's bytes
    elif image.format == "TIFF":
        decoder = _strip_bytes(image)
        _check_coded(_tiled_pixels(image), pixels, "TIFF", name)
        if _tag(image, 259) in _FAX and image.height > _MAX_FAX_ROWS:
            raise too_many_pieces(name)
    elif image.format in ("BMP", "DIB"):
        # Run lengths are unpacked in Python, and a step goes up to 255 rows beyond what is needed; then it is copied.
        decoder = 2 * (pixels + 256 * (image.width + 1)) if image.tile and image.tile[0][0] == "bmp_rle" else 0
    elif image.format in _HEIF_BYTES:
        coded = max(pixels, coded_pixels(data))
        decoder = _HEIF_BYTES[image.format] * coded
        _check_coded(coded, pixels, image.format, name)
    rows = image.height * _ROW_BYTES
    decoded = pixels * _BYTES_OF_MODE.get(image.mode, 4) + rows
    needed = len(data) + decoded + max(decoder, pixels * 4 + max(rows, image.width * _ROW_BYTES))
    if needed > max_memory:
        raise ImageError(
            f"{name}: decoding this {image.format} of {image.width} x {image.height} pixels would take about "
            f"{needed >> 20:,} MiB of memory, more than the limit of {max_memory >> 20:,} MiB. Reduce it, or save it "
            "as a baseline JPEG."
        )


def _check_coded(coded: int, pixels: int, kind: str, name: str) -> None:
    if coded > _MOST_CODED * pixels + 2**20:
        raise ImageError(
            f"{name}: this {kind} file is put together of {coded:,} pixels for a picture of {pixels:,}, which would "
            "take very long to decode. Save it again in an image editor."
        )


def too_many_pieces(name: str) -> ImageError:
    """The error about a file of too many chunks, blocks, strips, tiles or tags."""
    return ImageError(
        f"{name}: the file is cut into so many pieces, or has so much metadata, that it would take very long to read. "
        "Save it again in an image editor."
    )


def _jpeg_parts(data: bytes) -> tuple[int, bool, bytes]:
    """Number of scans, whether the segments are as many as may be, and the EXIF data; too many are not counted on."""
    scans = 0
    counts: Counter[str] = Counter()
    exif: list[bytes] = []
    at, fine = 2, True
    while at + 4 <= len(data) and scans <= MAX_SCANS and fine:
        if data[at] != 0xFF:  # rubbish between segments, which decoders skip
            at = data.find(b"\xff", at)
            if at < 0:
                break
            continue
        marker = data[at + 1]
        counts["all"] += 1
        if marker == 0xFF or marker in _STAND_ALONE:
            at += 1 if marker == 0xFF else 2
        else:
            end = at + 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))
            if marker == 0xE1 and data.startswith(_EXIF, at + 4):
                counts["exif"] += 1
                exif.append(data[at + 4 + len(_EXIF) : end])
            counts["photoshop"] += marker == 0xED
            at = end
        if marker == 0xDA:
            scans += 1
            following = _NEXT_MARKER.search(data, at)
            if following is None:
                break
            at = following.start()
        fine = counts["all"] <= _MAX_SEGMENTS and counts["exif"] <= _MAX_EXIF and counts["photoshop"] <= _MAX_PHOTOSHOP
    return scans, fine, b"".join(exif)


def _coefficient_bytes(image: ImageFile.ImageFile) -> int:
    """Two bytes for each sample, by the sampling factors of each component."""
    layers: list[tuple[Any, int, int, Any]] = getattr(image, "layer", [])  # id, horizontal, vertical, table
    widest = max((h * v for _, h, v, _ in layers), default=1) or 1
    return sum(2 * image.width * image.height * h * v // widest for _, h, v, _ in layers)


def _tag(image: Image.Image, number: int, default: int = 0) -> int:
    value: Any = getattr(image, "tag_v2", {}).get(number) or default
    return int(max(value) if isinstance(value, tuple) else value)


def _tiled_pixels(image: Image.Image) -> int:
    """What is decoded of a TIFF in tiles: each as a whole, though little of it may lie within the picture."""
    width, height = _tag(image, 322), _tag(image, 323)
    if not width or not height:
        return 0
    return -(-image.width // width) * -(-image.height // height) * width * height


def _strip_bytes(image: Image.Image) -> int:
    """The largest strip or tile of a TIFF, which compressed ones are unpacked to as a whole."""
    if _tag(image, 259, 1) == 1:
        return 0
    width = _tag(image, 322, image.width)
    rows = _tag(image, 323, min(_tag(image, 278, image.height), image.height))
    return width * rows * _tag(image, 277, 1) * _tag(image, 258, 8) // 8
