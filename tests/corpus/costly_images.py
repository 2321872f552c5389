"""Small picture files that would take very long, or very much memory, to decode; called by `hostile_images`."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from PIL import Image

from tests.corpus import pictures
from tests.corpus.case import Case, Right
from tests.corpus.images import image_case
from tests.corpus.pictures import chunk, encoded, png

Maker = Callable[[], bytes]
_FLAT = zlib.compress(bytes(999_999), 9)
_BAD_SUM = _FLAT[:-4] + b"xxxx"  # found at the end, when it was all unpacked
_FAX = (2, 3, 4, 32771)
_COMPRESSIONS = (5, 6, 7, 32766, 32773, 32809, 32908, 32909, 34676, 34677, 34887, 34925, 50000, 50001, 50002, *_FAX)


def costly_cases() -> Iterator[Case]:
    """Pictures that must be refused, and those at the bounds, which may be taken."""
    for makers, right in ((refused(), Right.SENTENCE), (bounded(), Right.EITHER)):
        for name, make in makers.items():
            yield image_case("costly", name, make, right)


def refused() -> dict[str, Maker]:
    """What would take more than ten seconds, or gigabytes."""
    return {
        "PNG of 2,500 profiles": lambda: png(8, 8, 8, 2, *[_packed(b"iCCP", _FLAT)] * 2500),
        "PNG of 2,000 texts that are damaged": lambda: png(8, 8, 8, 2, *[_packed(b"zTXt", _BAD_SUM)] * 2000),
        "PNG of texts behind its pixels": lambda: behind(_packed(b"zTXt", _BAD_SUM) * 10_000),
        "PNG of profiles behind its pixels": lambda: behind(_packed(b"iCCP", _BAD_SUM) * 10_000),
        "PNG of long texts": lambda: png(8, 8, 8, 2, *[chunk(b"iTXt", b"x\0\1\0\0\0" + _BAD_SUM)] * 2000),
        "TIFF of tiles below the picture": partial(_tiles, 50_000, 900, 16, 3_000_000),
        "TIFF of tiles beside the picture": partial(_tiles, 1000, 50_000, 50_000, 16),
        "TIFF of one tile for 64 pixels": partial(_tiles, 8, 8, 4096, 4096),
        "TIFF of 150,000 rows of fax": partial(_strips, 250, 150_000, bytes(64), 3, rows=1),
        "TIFF of 6,000,000 rows of fax": partial(_strips, 8, 6_000_000, _noise(3_000_000), 3),
        "BMP of steps over 12,000,000 columns": partial(_run_lengths, 12_000_000, 4, b"\0\2\xff\xff" * 3, 4),
        "BMP of steps over 1,000,000 columns": partial(_run_lengths, 1_000_000, 40, b"\0\2\xff\xff" * 3),
        "BMP of 390,000 runs": partial(_run_lengths, 7000, 7000, (b"\xff\1" * 27 + b"\x73\1\0\0") * 7000),
    }


def bounded() -> dict[str, Maker]:
    """What is as costly as may be."""
    made: dict[str, Maker] = {
        "JPEG of 99 scans": partial(pictures.with_scans, 99, (3890, 3890)),
        "JPEG of 99 arithmetic scans": partial(_claimed, 3890, 3890, 0xCA, 99),
        "JPEG of arithmetic coding": partial(_claimed, 7000, 7000, 0xC9),
        "JPEG without losses": partial(_claimed, 7000, 7000, 0xC3),
        "JPEG of a restart at each block": lambda: pictures.with_segments(_claimed(6900, 6900), 0xDD, b"\0\1"),
        "JPEG of 4,900 Huffman tables": lambda: pictures.with_segments(_claimed(64, 64), 0xC4, _TABLE, 4900),
        "JPEG of 255 parts of a profile": lambda: pictures.with_segments(_claimed(64, 64), 0xE2, _PROFILE, 255),
        "PNG of 190 texts that are damaged": lambda: png(8, 8, 8, 2, *[_packed(b"zTXt", _BAD_SUM)] * 190),
        "PNG of seven passes": lambda: _interlaced(6900, 6900),
        "PNG of 60,000 parts": partial(_parts, 5000, 5000, 60_000),
        "PNG of 2^31 frames": lambda: png(7000, 7000, 8, 0, chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0))),
        "GIF of 3,000 frames": lambda: _frames(3000),
        "TIFF of tiles of one row": partial(_tiles, 7000, 7000, 16, 16),
        "TIFF of strips that hold too much": partial(_strips, 7000, 7000, pictures.bomb(100), 8, rows=10),
        "TIFF in CIELAB": partial(_strips, 6990, 6990, zlib.compress(bytes(6990 * 30)), 8, rows=10, samples=3, photo=8),
        "TIFF of JPEG strips of 95 scans": lambda: _strips(
            7000, 7000, pictures.with_scans(95, (7000, 1000)), 7, rows=1000, samples=3, photo=6
        ),
        "BMP of steps over 100,000 columns": partial(_run_lengths, 100_000, 400, b"\0\2\xff\1" * 500),
        "WebP of one colour": lambda: encoded(Image.new("RGBA", (4900, 4900), (1, 2, 3, 4)), "WEBP", lossless=True),
        "WebP of 300 frames": lambda: _many_frames("WEBP", 300),
        "AVIF of 30 frames": lambda: _many_frames("AVIF", 30),
        "AVIF of noise": lambda: encoded(Image.fromarray(pictures.noise(3, 700, 700)), "AVIF", quality=98, speed=10),
    }
    for number in _COMPRESSIONS:
        made[f"TIFF of noise, compression {number}"] = partial(_strips, 7000, 7000, _noise(300_000), number)
    return made


_TABLE = b"\0" + bytes([0] * 15 + [255]) + bytes(range(255))
_PROFILE = b"ICC_PROFILE\0\1\xff" + bytes(60_000)


def _noise(size: int) -> bytes:
    return np.random.default_rng(size).bytes(size)


def _packed(kind: bytes, data: bytes) -> bytes:
    return chunk(kind, b"x\0\0" + data)


def behind(chunks: bytes) -> bytes:
    """A PNG with chunks between its pixels and its end."""
    data = png(8, 8, 8, 2)
    return data[:-12] + chunks + data[-12:]


def _interlaced(width: int, height: int) -> bytes:
    data = bytearray(png(width, height, 8, 2))
    data[28] = 1
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    return bytes(data)


def _parts(width: int, height: int, count: int) -> bytes:
    data = png(width, height, 8, 2)
    pixels = data[41:-16]
    size = max(1, len(pixels) // count)
    parts = [chunk(b"IDAT", pixels[at : at + size]) for at in range(0, len(pixels), size)]
    return data[:33] + b"".join(parts) + data[-12:]


def _claimed(width: int, height: int, frame: int = 0xC0, scans: int = 1) -> bytes:
    """A JPEG of 64 x 64 pixels whose header says another size and way of coding."""
    progressive = scans > 1
    small = encoded(Image.new("RGB", (64, 64)), "JPEG", progressive=progressive, subsampling=0)
    if progressive:
        scan = small[small.rindex(b"\xff\xda") : -2]
        small = small[:-2] + scan * (scans - small.count(b"\xff\xda")) + small[-2:]
    data = bytearray(small)
    at = data.index(b"\xff\xc2" if progressive else b"\xff\xc0")
    data[at + 1] = frame
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def _frames(count: int) -> bytes:
    data = encoded(Image.new("P", (60, 60)), "GIF")
    return data[:-1] + data[data.index(b"\x2c") : -1] * count + b";"


def _many_frames(kind: str, count: int) -> bytes:
    frames = [Image.new("RGB", (16, 16), (n % 256, n // 256, 0)) for n in range(count)]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:])


def _run_lengths(width: int, height: int, data: bytes, bits: int = 8) -> bytes:
    data += b"\0\1"
    about = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 1 if bits == 8 else 2, len(data), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 1078 + len(data), 0, 0, 1078) + about + bytes(1024) + data


def _tiles(width: int, height: int, tile_width: int, tile_height: int) -> bytes:
    count = -(-width // tile_width) * -(-height // tile_height)
    tile = pictures.zeros(tile_width * tile_height)
    return _shared(
        [(256, width), (257, height), (258, 8), (259, 8), (262, 1), (277, 1), (322, tile_width), (323, tile_height)],
        (324, 325),
        count,
        tile,
    )


def _strips(
    width: int, height: int, strip: bytes, compression: int, rows: int | None = None, samples: int = 1, photo: int = 1
) -> bytes:
    rows = rows or height
    bits = 1 if compression in _FAX else 8
    about = [(256, width), (257, height), (258, bits), (259, compression), (262, photo), (277, samples), (278, rows)]
    return _shared(about, (273, 279), -(-height // rows), strip)


def _shared(about: list[tuple[int, int]], places: tuple[int, int], count: int, part: bytes) -> bytes:
    """A TIFF all of whose strips or tiles are the same bytes, however many there are."""
    directory = 8 + 2 + 12 * (len(about) + 2) + 4
    start = directory + 8 * count + 8
    offsets, sizes = struct.pack("<I", start) * count, struct.pack("<I", len(part)) * count
    samples = dict(about)[277]
    tags = [(number, 3 if number == 258 else 4, 1, value) for number, value in about]
    if samples > 1:  # the bits of each, behind the rest
        tags = [(number, kind, samples if number == 258 else n, start - 8 if number == 258 else value)
                for number, kind, n, value in tags]  # fmt: skip
    tags += [
        (places[0], 4, count, start if count == 1 else directory),
        (places[1], 4, count, len(part) if count == 1 else directory + 4 * count),
    ]
    bits = struct.pack("<4H", *[dict(about)[258]] * 4)
    return pictures.tiff(sorted(tags), offsets + sizes + bits + part)
