"""Small files that ask for much time or memory are refused at once; large honest ones are decoded within the bound."""

from __future__ import annotations

import io
import resource
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin

from lsn_core.data.decoding_cost import MAX_SCANS, check_cost
from lsn_core.data.heif import coded_pixels
from lsn_core.data.images import ImageError, ImageLimits, open_image
from tests.corpus.costly_images import refused

PIECES = 2_000_000


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, *between: bytes) -> bytes:
    """A black PNG, with chunks before its pixels."""
    row = b"\0" * (1 + width * {0: 1, 2: 3, 6: 4}[colour] * depth // 8)
    rows = max(1, min(height, 2**20 // len(row)))
    deflate = zlib.compressobj(6)
    packed = [deflate.compress(row * rows) for _ in range(height // rows)]
    packed += [deflate.compress(row * (height % rows)), deflate.flush()]
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [chunk(b"IHDR", header), *between, chunk(b"IDAT", b"".join(packed)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def with_scans(count: int, size: tuple[int, int] = (400, 400)) -> bytes:
    """A progressive JPEG whose last scan is repeated until it has so many."""
    data = encoded(Image.new("RGB", size, (90, 160, 30)), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + scan * (count - data.count(b"\xff\xda")) + data[-2:]


def with_segments(count: int) -> bytes:
    data = encoded(Image.new("RGB", (8, 8)), "JPEG")
    return data[:2] + b"\xff\xfe\0\2" * count + data[2:]


def with_extensions(count: int) -> bytes:
    data = encoded(Image.new("P", (8, 8)), "GIF")
    at = data.index(b"\x2c")
    return data[:at] + b"\x21\xfe\1a\0" * count + data[at:]


def with_strips(count: int, order: str = "<") -> bytes:
    """A TIFF one pixel wide, one strip a row."""
    tags = [(256, 1, 1), (257, 1, count), (258, 1, 8), (259, 1, 1), (262, 1, 1), (277, 1, 1), (278, 1, 1)]
    tags += [(273, count, 200), (279, count, 200)]
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, number, value) for tag, number, value in sorted(tags))
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, len(tags))
    return (head + entries + b"\0" * 4).ljust(200, b"\0") + struct.pack(f"{order}I", 1) * count


def shared_tags(count: int, size: int) -> bytes:
    """An EXIF block or TIFF of so many tags, all of which have the same bytes as their data."""
    entries = b"".join(struct.pack("<HHII", 1000 + tag, 7, size, 0) for tag in range(count))
    return (b"II*\0" + struct.pack("<IH", 8, count) + entries + b"\0" * 4).ljust(size, b"\0")


def with_marker(marker: int, content: bytes, count: int = 1) -> bytes:
    data = encoded(Image.new("RGB", (8, 8)), "JPEG")
    return data[:2] + (bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content) * count + data[2:]


def with_comment(blocks: int) -> bytes:
    data = encoded(Image.new("P", (8, 8)), "GIF")
    at = data.index(b"\x2c")
    return data[:at] + b"\x21\xfe" + (b"\xff" + b"a" * 255) * blocks + b"\0" + data[at:]


def tiff_with_shared_tags() -> bytes:
    tags = [(256, 4, 1, 8), (257, 4, 1, 8), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 9)]
    tags += [(277, 3, 1, 1), (278, 4, 1, 8), (279, 4, 1, 64), *((tag, 7, 10**6, 0) for tag in range(1000, 1300))]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return (b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + b"\0" * 4).ljust(10**6 + 100, b"\0")


SLOW: dict[str, Callable[[], bytes]] = {
    "JPEG whose tags share their data": lambda: with_marker(0xE1, b"Exif\0\0" + shared_tags(5000, 65_000)),
    "JPEG of many EXIF segments": lambda: with_marker(0xE1, b"Exif\0\0II*\0\x08\0\0\0" + b"\0" * 150, 4000),
    "JPEG of many Photoshop segments": lambda: with_marker(
        0xED, b"Photoshop 3.0\0" + b"8BIM\4\4\0\0\0\0\0\0" * 5000, 400
    ),
    "GIF of a long comment": lambda: with_comment(60_000),
    "TIFF whose tags share their data": tiff_with_shared_tags,
    "JPEG of 2,000 scans": lambda: with_scans(2000),
    "JPEG of 2,000 scans after rubbish": lambda: with_scans(2000).replace(b"\xff\xdb", b"\0\0\0\xff\xff\xdb", 1),
    "JPEG of many segments": lambda: with_segments(PIECES),
    "PNG of many chunks": lambda: png(8, 8, 8, 2, chunk(b"teSt", b"") * PIECES),
    "PNG of many empty parts": lambda: png(8, 8, 8, 2, chunk(b"IDAT", b"") * PIECES),
    "GIF of many extensions": lambda: with_extensions(PIECES),
    "TIFF of many strips": lambda: with_strips(PIECES),
    "TIFF of many strips, other byte order": lambda: with_strips(PIECES, ">"),
}


@pytest.mark.parametrize("case", SLOW)
def test_what_would_take_long_is_refused_at_once(case: str) -> None:
    data = SLOW[case]()
    begun = time.process_time()
    with pytest.raises(ImageError, match=r"^slow.jpg: .*(scans|pieces).*Save it again"):
        open_image(data, name="slow.jpg")
    assert time.process_time() - begun < (0.05 if "scans" in case else 1.0)


def test_many_scans_of_a_large_picture_are_refused_and_of_a_small_one_read() -> None:
    assert open_image(with_scans(MAX_SCANS)).size == (400, 400)
    with pytest.raises(ImageError, match="baseline"):
        open_image(with_scans(MAX_SCANS, (5000, 4000)))


def test_a_jpeg_with_an_embedded_preview_counts_its_own_scans() -> None:
    preview = encoded(Image.new("RGB", (8, 8)), "JPEG")  # cameras put one into a segment
    data = encoded(Image.new("RGB", (16, 8), "red"), "JPEG")
    inside = preview * (60_000 // len(preview))
    data = data[:2] + b"".join(b"\xff\xec" + struct.pack(">H", len(inside) + 2) + inside for _ in range(3)) + data[2:]
    assert data.count(b"\xff\xda") > MAX_SCANS
    assert open_image(data).size == (16, 8)


def test_metadata_that_asks_for_gigabytes_takes_nothing_from_the_picture() -> None:
    exif = shared_tags(20_000, 260_000)  # Pillow's own reader would copy five gigabytes
    white = Image.new("RGB", (8, 8), "white")
    webp = encoded(white, "WEBP", lossless=True, exif=b"Exif\0\0" + exif)
    for data in (png(8, 8, 8, 2, chunk(b"eXIf", exif)), webp):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert open_image(data).size == (8, 8)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000 * (
            1024 if sys.platform == "darwin" else 1
        )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_read_where_programs_write_it(orientation: int) -> None:
    stored = Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    big_endian = b"MM\0*\0\0\0\x08\0\1" + struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0) + b"\0" * 4
    lines = "\n".join(["", "exif", str(len(big_endian)), big_endian.hex()])
    xmp = f'<x:xmpmeta><rdf:Description tiff:Orientation="{orientation}"/></x:xmpmeta>'.encode()
    profile, text = PngImagePlugin.PngInfo(), PngImagePlugin.PngInfo()
    profile.add_text("Raw profile type exif", lines)
    text.add_itxt("XML:com.adobe.xmp", xmp.decode())
    files = [
        encoded(stored, "PNG", exif=exif),
        encoded(stored, "PNG", exif=big_endian),
        encoded(stored, "PNG", pnginfo=profile),
        encoded(stored, "PNG", pnginfo=text),
        encoded(stored, "WEBP", lossless=True, exif=exif),
        encoded(stored, "WEBP", lossless=True, xmp=xmp),
        encoded(stored, "TIFF", exif=exif),
    ]
    wanted = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(files[0]))))
    for data in files:
        np.testing.assert_array_equal(np.asarray(open_image(data)), wanted)
    segment = b"http://ns.adobe.com/xap/1.0/\0" + xmp
    jpeg = encoded(stored, "JPEG", quality=95)
    jpeg = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:]
    turned = ImageOps.exif_transpose(Image.open(io.BytesIO(jpeg)))
    np.testing.assert_array_equal(np.asarray(open_image(jpeg)), np.asarray(turned))


VAST = {
    "tall": lambda: png(1, 49_999_999, 8, 0),
    "wide": lambda: png(49_999_999, 1, 8, 0),
    "deep": lambda: png(7000, 7000, 16, 6),
    "grey": lambda: png(7000, 7000, 16, 0),
    "turned": lambda: encoded(Image.new("RGB", (7000, 7000)), "JPEG", exif=_turned()),
    "progressive": lambda: encoded(Image.new("RGB", (7000, 7000)), "JPEG", progressive=True),
    "full colour, progressive": lambda: encoded(
        Image.new("RGB", (7000, 7000)), "JPEG", progressive=True, subsampling="4:4:4"
    ),
    "cmyk": lambda: encoded(Image.new("CMYK", (7000, 7000)), "JPEG", progressive=True),
    "one strip": lambda: encoded(
        Image.new("RGBA", (7000, 7000)), "TIFF", compression="tiff_adobe_deflate", strip_size=2**30
    ),
    "webp": lambda: encoded(Image.new("RGB", (7000, 7000)), "WEBP", quality=1, method=0),
    "gif": lambda: encoded(Image.new("P", (7000, 7000)), "GIF"),
    "clear palette": lambda: encoded(Image.new("P", (7000, 7000)), "PNG", transparency=0),
}


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


@pytest.mark.parametrize("case", VAST)
def test_no_picture_takes_more_memory_than_the_limit(case: str, tmp_path: Path) -> None:
    path = tmp_path / "vast"
    path.write_bytes(VAST[case]())
    script = (
        "import resource, sys, warnings\nwarnings.simplefilter('ignore')\n"
        "from lsn_core.data.images import ImageError, open_image\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n    print(open_image(sys.argv[1]).size)\n"
        "except ImageError as error:\n    assert 'memory' in str(error), error\n    print('refused')\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, cwd=Path(__file__).parents[3]
    )
    assert done.returncode == 0, done.stderr
    outcome, kilobytes = done.stdout.splitlines()
    refused = {"tall", "wide", "full colour, progressive", "cmyk", "webp"}
    assert (outcome == "refused") == (case in refused)
    assert int(kilobytes) // (1024 if sys.platform == "darwin" else 1) < 400 * 1024


def test_the_memory_limit_can_be_set() -> None:
    data = png(1000, 1000, 8, 2)
    with pytest.raises(ImageError, match="memory"):
        open_image(data, limits=ImageLimits(max_memory=2**20))
    assert open_image(data, limits=ImageLimits(max_memory=2**24)).size == (1000, 1000)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "I;16", "CMYK"])
def test_strips_of_a_large_picture_join_without_a_seam(orientation: int, mode: str) -> None:
    rng = np.random.default_rng(orientation)
    small = Image.fromarray(rng.integers(0, 256, (700, 900, 3), dtype=np.uint8))
    image = (
        Image.fromarray(rng.integers(0, 65536, (700, 900), dtype=np.uint16)) if mode == "I;16" else small.convert(mode)
    )
    exif = Image.Exif()
    exif[0x0112] = orientation
    kind = "TIFF" if mode in ("CMYK", "I;16") else "PNG"
    whole = open_image(encoded(image, kind, exif=exif))
    turned = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: a[::-1].transpose(1, 0, 2),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: a.transpose(1, 0, 2)[::-1],
    }[orientation]
    # Row by row, each a picture small enough to be turned in one piece.
    rows = [np.asarray(open_image(image.crop((0, y, 900, y + 1)))) for y in range(700)]
    np.testing.assert_array_equal(np.asarray(whole), turned(np.concatenate(rows)))


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I", 8 + len(body)) + kind + body


def heif_of_tiles(size: int, tile: int, tiles: int) -> bytes:
    """The boxes of a picture of size x size, put together of one tile again and again (ISO/IEC 23008-12)."""
    sizes = [box(b"ispe", struct.pack(">III", 0, side, side)) for side in (size, tile)]
    associations = struct.pack(">IIHBBHBB", 0, 2, 1, 1, 1, 2, 1, 2)
    references = struct.pack(">IHH", 0, 1, tiles)[4:] + struct.pack(">H", 2) * tiles
    meta = box(
        b"meta",
        bytes(4),
        box(b"pitm", struct.pack(">IH", 0, 1)),
        box(b"iprp", box(b"ipco", *sizes), box(b"ipma", associations)),
        box(b"iref", bytes(4), box(b"dimg", references)),
    )
    return box(b"ftyp", b"heic", bytes(4), b"mif1heic") + meta


@pytest.mark.parametrize("kind", ["HEIF", "AVIF"])
def test_a_small_picture_of_many_large_tiles_is_refused(kind: str) -> None:
    opened = Image.new("RGB", (4096, 4096))
    opened.format = kind
    honest, bomb = heif_of_tiles(4096, 512, 64), heif_of_tiles(4096, 4096, 1000)
    assert coded_pixels(honest) == 2 * 4096**2 and coded_pixels(bomb) == 1001 * 4096**2
    check_cost(opened, honest, "a", 400 * 2**20)
    with pytest.raises(ImageError, match="put together of"):
        check_cost(opened, bomb, "a", 2**40)
    assert coded_pixels(heif_of_tiles(4096, 4096, 60_000)) > 2**60
    for cut in range(len(honest)):
        coded_pixels(honest[:cut])  # whatever is missing, no error


@pytest.mark.parametrize("case", refused())
def test_what_unpacks_to_far_more_than_it_shows_is_refused_at_once(case: str) -> None:
    data = refused()[case]()
    begun = time.process_time()
    with pytest.raises(ImageError, match=r"very long|of memory") as caught:
        open_image(data, name="x")
    assert time.process_time() - begun < 2
    assert any(way_out in str(caught.value) for way_out in ("Save it again", "Reduce it"))


def test_texts_tiles_and_run_lengths_of_honest_files_are_read() -> None:
    values = np.random.default_rng(0).integers(0, 256, (100, 90), dtype=np.uint8)
    info = PngImagePlugin.PngInfo()
    for number in range(150):
        info.add_text(f"key {number}", "x" * 500, zip=True)
    assert np.array_equal(open_image(encoded(Image.fromarray(values), "PNG", pnginfo=info)).convert("L"), values)
    options = {"compression": "tiff_lzw", "tiffinfo": {322: 512, 323: 512}}
    assert np.array_equal(open_image(encoded(Image.fromarray(values), "TIFF", **options)).convert("L"), values)
    # Four rows of 6, the lowest first: a run of 6, six absolute values, a step up by two rows and four to the right.
    steps = b"\6\1\0\0" + b"\0\6\1\2\3\4\5\6\0\0" + b"\0\2\4\1\2\7\0\1"
    about = struct.pack("<IiiHHIIiiII", 40, 6, 4, 1, 8, 1, len(steps), 0, 0, 256, 0)
    palette = b"".join(bytes([level, level, level, 0]) for level in range(256))
    data = b"BM" + struct.pack("<IHHI", 1078 + len(steps), 0, 0, 1078) + about + palette + steps
    right = [[0, 0, 0, 0, 7, 7], [0] * 6, [1, 2, 3, 4, 5, 6], [1] * 6]
    assert np.asarray(open_image(data).convert("L")).tolist() == right
