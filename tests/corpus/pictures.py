"""Bytes of image files: what encoders write, and what only an attacker would."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """A picture as a file of this format."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(seed: int, width: int = 24, height: int = 16, channels: int = 3, top: int = 256) -> np.ndarray:
    """Random values below `top`, shape (H, W) or (H, W, channels)."""
    shape = (height, width) if channels == 1 else (height, width, channels)
    kind = np.uint8 if top <= 256 else np.uint16
    return np.random.default_rng(seed).integers(0, top, shape, dtype=kind)


def smooth(seed: int, width: int = 24, height: int = 16) -> np.ndarray:
    """A gradient, which JPEG keeps nearly as it is, shape (H, W, 3)."""
    rng = np.random.default_rng(seed)
    start, across, down = (rng.uniform(0, top, 3) for top in (120, 60, 60))
    x, y = np.linspace(0, 1, width)[None, :, None], np.linspace(0, 1, height)[:, None, None]
    return np.rint(start + across * x + down * y).astype(np.uint8)


def chunk(kind: bytes, data: bytes) -> bytes:
    """A PNG chunk."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, *between: bytes, pixels: bytes | None = None) -> bytes:
    """A PNG with chunks before its pixels; black, or of these packed bytes."""
    if pixels is None:
        row = b"\0" * (1 + width * {0: 1, 2: 3, 3: 1, 6: 4}[colour] * depth // 8)
        rows = max(1, min(height, 2**20 // len(row)))
        deflate = zlib.compressobj(6)
        parts = [deflate.compress(row * rows) for _ in range(height // rows)]
        pixels = b"".join([*parts, deflate.compress(row * (height % rows)), deflate.flush()])
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", header), *between, chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    )


def bomb(megabytes: int) -> bytes:
    """Zeros, packed a thousandfold."""
    return zeros(megabytes * 2**20)


def zeros(size: int) -> bytes:
    """So many zeros, packed."""
    deflate = zlib.compressobj(9)
    whole = b"".join(deflate.compress(bytes(2**20)) for _ in range(size >> 20))
    return whole + deflate.compress(bytes(size % 2**20)) + deflate.flush()


def tiff(tags: list[tuple[int, int, int, int]], data: bytes = b"", order: str = "<") -> bytes:
    """A TIFF of these tags (number, type, count, value) and what follows them."""
    entries = b"".join(struct.pack(f"{order}HHII", *tag) for tag in tags)
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, len(tags))
    return head + entries + b"\0" * 4 + data


def shared_tags(count: int, size: int) -> bytes:
    """An EXIF block of so many tags, all of which have the same bytes as their data."""
    return tiff([(1000 + tag, 7, size, 0) for tag in range(count)]).ljust(size, b"\0")


def with_scans(count: int, size: tuple[int, int] = (400, 400)) -> bytes:
    """A progressive JPEG whose last scan is repeated until it has so many."""
    data = encoded(Image.new("RGB", size, (90, 160, 30)), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + scan * (count - data.count(b"\xff\xda")) + data[-2:]


def with_segments(data: bytes, marker: int, content: bytes, count: int = 1) -> bytes:
    """A JPEG with segments after its start."""
    return data[:2] + (bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content) * count + data[2:]


def exif_of(orientation: int, order: str = "<") -> bytes:
    """EXIF data that tells the orientation alone."""
    mark = b"II" if order == "<" else b"MM"
    return mark + struct.pack(f"{order}HIHHHIHHI", 42, 8, 1, 0x0112, 3, 1, orientation, 0, 0)


def stored_as(upright: np.ndarray, orientation: int) -> np.ndarray:
    """What a camera held that way stores (EXIF 2.3, tag 274: the sides that row 0 and column 0 stand for)."""
    turned = upright.transpose(1, 0, 2)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: turned,
        6: turned[::-1],
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: turned[:, ::-1],
    }[orientation]
    return np.ascontiguousarray(stored)
