"""What decoding an image file would cost, told from its header: such that cost more than they should are refused.

A file of a few hundred kilobytes can ask for minutes of work (a progressive JPEG of thousands of scans) or for a
gigabyte (a TIFF whose one strip is the whole picture), so its own size says nothing.
"""

from __future__ import annotations

import io
import re
import struct
from typing import Any

from PIL import Image, ImageFile

from lsn_core.errors import ImageError

MAX_SCANS = 100
"""Of a JPEG. Encoders write 10 to 14."""

MAX_SCANNED_PIXELS = 1_500_000_000
"""Scans of a progressive JPEG times its pixels."""

MAX_READS = 200_000
"""Reads from a file while it is opened and decoded: each chunk of a PNG and each block of a GIF takes a few."""

_MAX_PIECES = 200_000  # strips or tiles of a TIFF, segments of a JPEG
_BYTES_OF_MODE = {"1": 1, "L": 1, "P": 1}  # of a pixel in Pillow's memory; 4 where nothing else is said
_ROW_BYTES = 8  # Pillow keeps a pointer to each row
_STAND_ALONE = {0x01, *range(0xD0, 0xDA)}  # JPEG markers without a length
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


class CountedReads(io.BytesIO):
    """The bytes of a file, which can be read MAX_READS times: what is made of millions of pieces ends there."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        if self.reads > MAX_READS:
            raise TooManyPieces
        return super().read(size)


class TooManyPieces(Exception):
    """An image file has more pieces than any honest one."""


def check_pieces(data: bytes, name: str) -> None:
    """Raises ImageError for a JPEG or TIFF of too many pieces, which would take long even to open.

    Args:
        data: the encoded bytes.
        name: what to call the picture in messages.
    """
    if data[:2] == b"\xff\xd8":
        scans, pieces = _jpeg_scans(data)
        if scans > MAX_SCANS:
            raise ImageError(
                f"{name}: this JPEG is made of more than {MAX_SCANS} scans, which would take very long to decode. Save "
                "it again in an image editor."
            )
    else:
        pieces = _tiff_pieces(data)
    if pieces > _MAX_PIECES:
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
        scans, _ = _jpeg_scans(data)
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
    rows = image.height * _ROW_BYTES
    decoded = pixels * _BYTES_OF_MODE.get(image.mode, 4) + rows
    needed = len(data) + decoded + max(decoder, pixels * 4 + max(rows, image.width * _ROW_BYTES))
    if needed > max_memory:
        raise ImageError(
            f"{name}: decoding this {image.format} of {image.width} x {image.height} pixels would take about "
            f"{needed >> 20:,} MiB of memory, more than the limit of {max_memory >> 20:,} MiB. Reduce it, or save it "
            "as a baseline JPEG."
        )


def too_many_pieces(name: str) -> ImageError:
    """The error about a file of too many chunks, blocks, strips or tiles."""
    return ImageError(
        f"{name}: the file is cut into so many pieces that it would take very long to read. Save it again in an image "
        "editor."
    )


def _jpeg_scans(data: bytes) -> tuple[int, int]:
    """Number of scans and of segments; counting ends where there are too many."""
    scans = segments = 0
    at = 2
    while at + 4 <= len(data) and scans <= MAX_SCANS and segments <= _MAX_PIECES:
        if data[at] != 0xFF:  # rubbish between segments, which decoders skip
            at = data.find(b"\xff", at)
            if at < 0:
                break
            continue
        marker = data[at + 1]
        if marker == 0xFF or marker in _STAND_ALONE:
            at += 1 if marker == 0xFF else 2
            segments += 1
            continue
        segments += 1
        at += 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))
        if marker == 0xDA:
            scans += 1
            following = _NEXT_MARKER.search(data, at)
            if following is None:
                break
            at = following.start()
    return scans, segments


def _coefficient_bytes(image: ImageFile.ImageFile) -> int:
    """Two bytes for each sample, by the sampling factors of each component."""
    layers: list[tuple[Any, int, int, Any]] = getattr(image, "layer", [])  # id, horizontal, vertical, table
    widest = max((h * v for _, h, v, _ in layers), default=1) or 1
    return sum(2 * image.width * image.height * h * v // widest for _, h, v, _ in layers)


def _tiff_pieces(data: bytes) -> int:
    """Strips or tiles of the first picture of a TIFF; 0 for anything else."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 16:
        return 0
    (version,) = struct.unpack_from(f"{order}H", data, 2)
    big = version == 43
    count_format, entry_format, offset_format = ("Q", "HHQ", "Q") if big else ("H", "HHI", "I")
    try:
        (offset,) = struct.unpack_from(f"{order}{offset_format}", data, 8 if big else 4)
        (entries,) = struct.unpack_from(f"{order}{count_format}", data, offset)
        first, size = offset + struct.calcsize(f"<{count_format}"), 20 if big else 12
        counts = [0]
        for entry in range(min(entries, 65_536)):
            tag, _, count = struct.unpack_from(f"{order}{entry_format}", data, first + entry * size)
            counts += [count] if tag in (273, 324) else []  # StripOffsets, TileOffsets
        return max(counts)
    except struct.error:
        return 0  # damaged: the decoder will say so


def _strip_bytes(image: Image.Image) -> int:
    """The largest strip or tile of a TIFF, which compressed ones are unpacked to as a whole."""
    tags: Any = getattr(image, "tag_v2", {})
    if tags.get(259, 1) == 1:
        return 0
    bits = tags.get(258, 8)
    bits = max(bits) if isinstance(bits, tuple) else int(bits)
    width = int(tags.get(322) or image.width)
    rows = int(tags.get(323) or min(int(tags.get(278) or image.height), image.height))
    return width * rows * int(tags.get(277, 1)) * bits // 8
