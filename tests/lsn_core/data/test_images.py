"""Tests that untrusted image bytes give the right pixels or an ImageError, and nothing else."""

import io
import os
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from support import encoded, noise, pixels

from lsn_core.data.images import ImageError, ImageLimits, open_image, printable
from lsn_core.errors import UserError

FORMATS = ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, packed: bytes, extra: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def small_png(width: int, depth: int, colour: int, row: bytes, extra: bytes = b"") -> bytes:
    return png(width, 1, depth, colour, zlib.compress(b"\0" + row), extra)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_keep_every_pixel(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.dat"  # the content decides, not the name
    path.write_bytes(encoded(noise(), kind))
    for source in (path, str(path), path.read_bytes()):
        assert pixels(source) == np.asarray(noise()).tolist()


@pytest.mark.parametrize("kind", FORMATS)
def test_every_allowed_format_opens(kind: str) -> None:
    image = open_image(encoded(Image.new("RGB", (16, 12), (200, 40, 90)), kind))
    assert image.size == (16, 12)
    assert np.abs(np.asarray(image).astype(int) - (200, 40, 90)).max() <= 4


def test_formats_outside_the_list_are_refused() -> None:
    for kind in ("PPM", "ICO", "EPS", "PCX"):
        with pytest.raises(ImageError, match="Convert it to JPEG, PNG"):
            open_image(encoded(Image.new("RGB", (16, 16)), kind))


def test_sixteen_bit_samples_are_scaled_not_clipped() -> None:
    row = struct.pack(">4H", 0, 257, 32768, 65535)
    assert pixels(small_png(4, 16, 0, row)) == [[[0] * 3, [1] * 3, [128] * 3, [255] * 3]]
    assert pixels(small_png(1, 16, 2, struct.pack(">3H", 0, 32768, 65535))) == [[[0, 128, 255]]]
    values = np.array([[0, 257, 32768, 65535]])
    for mode in ("<u2", ">u2", "<i4"):
        stored = Image.fromarray(values.astype(mode))
        assert stored.mode in ("I;16", "I;16B", "I")
        assert pixels(encoded(stored, "TIFF")) == [[[0] * 3, [1] * 3, [128] * 3, [255] * 3]]


def test_wide_integers_are_stretched_and_narrow_ones_kept() -> None:
    assert pixels(Image.fromarray(np.array([[0, 7, 255]], dtype=np.int32))) == [[[0] * 3, [7] * 3, [255] * 3]]
    assert pixels(Image.fromarray(np.array([[-(10**6), 0, 10**6]], dtype=np.int32))) == [
        [[0] * 3, [128] * 3, [255] * 3]
    ]


def test_floating_point_pictures() -> None:
    def tiff(*values: float) -> bytes:
        return encoded(Image.fromarray(np.array([values], dtype=np.float32)), "TIFF")

    assert pixels(tiff(0.2, 0.6)) == [[[51] * 3, [153] * 3]]
    assert pixels(tiff(-5, 0, 5)) == [[[0] * 3, [128] * 3, [255] * 3]]
    assert pixels(tiff(float("nan"), 1.0, float("inf"))) == [[[0] * 3, [255] * 3, [0] * 3]]
    with pytest.raises(ImageError, match=r"scan\.tif.*NaN"):
        open_image(tiff(float("nan"), float("nan")), name="scan.tif")


def test_transparency_is_laid_on_white() -> None:
    red_half = Image.new("RGBA", (1, 1), (255, 0, 0, 128))
    expected = [[[255, 127, 127]]]  # 255 * 128/255 + 255 * 127/255, and 0 * 128/255 + 255 * 127/255
    assert pixels(encoded(red_half, "PNG")) == expected
    assert pixels(red_half) == expected
    assert pixels(red_half.convert("RGBa")) == expected
    assert pixels(encoded(Image.new("LA", (1, 1), (0, 51)), "PNG")) == [[[204] * 3]]
    assert pixels(Image.new("RGBA", (1, 1), (0, 0, 0, 51)).convert("PA")) == [[[204] * 3]]


def test_transparent_colours_become_white() -> None:
    def key(*samples: int) -> bytes:
        return chunk(b"tRNS", struct.pack(f">{len(samples)}H", *samples))

    assert pixels(small_png(2, 8, 2, bytes([1, 2, 3, 4, 5, 6]), key(1, 2, 3))) == [[[255] * 3, [4, 5, 6]]]
    assert pixels(small_png(2, 8, 0, bytes([5, 6]), key(5))) == [[[255] * 3, [6] * 3]]
    assert pixels(small_png(2, 16, 0, struct.pack(">2H", 0x1234, 257), key(0x1234))) == [[[255] * 3, [1] * 3]]
    deep = struct.pack(">6H", 0x1234, 0x2345, 0x3456, 257, 514, 771)
    assert pixels(small_png(2, 16, 2, deep, key(0x1234, 0x2345, 0x3456))) == [[[255] * 3, [1, 2, 3]]]
    palette = chunk(b"PLTE", bytes([9, 8, 7, 40, 50, 60])) + chunk(b"tRNS", b"\0\xff")
    assert pixels(small_png(2, 8, 3, b"\0\1", palette)) == [[[255] * 3, [40, 50, 60]]]


def test_few_bits_and_palettes() -> None:
    assert pixels(small_png(4, 1, 0, b"\x50")) == [[[0] * 3, [255] * 3, [0] * 3, [255] * 3]]
    assert pixels(small_png(4, 2, 0, b"\x1b")) == [[[0] * 3, [85] * 3, [170] * 3, [255] * 3]]
    assert pixels(small_png(2, 8, 3, b"\1\0", chunk(b"PLTE", bytes([9, 8, 7, 40, 50, 60])))) == [
        [[40, 50, 60], [9, 8, 7]]
    ]


def test_colour_spaces_of_print() -> None:
    inks = Image.new("CMYK", (16, 8), (0, 0, 0, 0))
    inks.paste((0, 255, 255, 0), (8, 0, 16, 8))
    jpeg = encoded(inks, "JPEG", quality=100)
    assert b"Adobe" in jpeg  # stored inverted, as Photoshop does
    for data in (jpeg, encoded(inks, "TIFF")):
        image = np.asarray(open_image(data)).astype(int)
        assert np.abs(image[:, 2] - 255).max() <= 3
        assert np.abs(image[:, 13] - (255, 0, 0)).max() <= 3
    assert pixels(Image.new("YCbCr", (1, 1), (255, 128, 128))) == [[[255] * 3]]
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    orange = ImageCms.profileToProfile(Image.new("RGB", (1, 1), (230, 120, 40)), srgb, lab, outputMode="LAB")
    found = np.array(pixels(encoded(orange, "TIFF")))
    assert np.abs(found - (230, 120, 40)).max() <= 6


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_every_orientation_is_turned_upright(orientation: int, kind: str) -> None:
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :16] = 255  # white in the upper left quarter, and twice as wide as high
    # What a camera held that way stores (EXIF 2.3, tag 274: the sides that row 0 and column 0 stand for).
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif)
    for source in (data, Image.open(io.BytesIO(data))):
        image = open_image(source)
        assert image.size == (32, 16)
        assert np.abs(np.asarray(image).astype(int) - upright).max() <= 20
        assert pixels(image) == np.asarray(image).tolist()  # opening it again does not turn it again


def test_absurd_exif_leaves_the_picture() -> None:
    for exif in (b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0", b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\xff" * 40):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert open_image(encoded(noise(), "JPEG", exif=exif)).size == (16, 12)


def test_animations_and_documents_give_their_first_frame() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "lime", "blue")]
    for kind in ("GIF", "TIFF", "PNG"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        assert pixels(data)[0][0] == [255, 0, 0]


def test_pillow_images_and_arrays_are_left_as_they_are() -> None:
    image = Image.new("P", (2, 2))
    before = image.tobytes()
    open_image(image)
    assert image.mode == "P" and image.tobytes() == before
    array = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    assert pixels(array) == array.tolist()
    assert pixels(array[:, :, :1]) == np.repeat(array[:, :, :1], 3, axis=2).tolist()
    assert pixels(np.zeros((1, 1, 4), np.uint8)) == [[[255] * 3]]
    for bad in (np.zeros((4, 5, 3)), np.zeros((4, 5, 2), np.uint8), np.zeros(3, np.uint8), np.zeros((0, 5), np.uint8)):
        with pytest.raises(ImageError):
            open_image(bad)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"just some text", "not an image"),
        (b"\n<svg xmlns='http://www.w3.org/2000/svg'/>", "HTML, SVG or XML"),
        (b"<!DOCTYPE html><html></html>", "HTML, SVG or XML"),
        (encoded(noise(), "PNG")[:-200], "damaged or incomplete"),
        (encoded(noise(), "JPEG")[:-300], "damaged or incomplete"),
        (small_png(0, 8, 0, b""), "0 x 1|beginning is damaged"),
    ],
)
def test_what_is_not_a_picture_is_refused_by_name(data: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "holiday.jpg"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=reason) as caught:
        open_image(path)
    assert str(path) in str(caught.value)
    with pytest.raises(ImageError, match=r"^upload 3: "):
        open_image(path, name="upload 3")


def test_paths_that_are_not_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for path, reason in [
        (tmp_path, "folder"),
        (tmp_path / "none.png", "no such file"),
        (tmp_path / "pipe.png", "not a regular file"),
        ("a\0b.png", "cannot be read"),
        (tmp_path / ("x" * 5000), "cannot be read"),
    ]:
        with pytest.raises(ImageError, match=reason):
            open_image(path)


def test_no_file_stays_open(tmp_path: Path) -> None:
    for kind in FORMATS:
        path = tmp_path / f"a.{kind}"
        path.write_bytes(encoded(noise(), kind))
        (tmp_path / "bad").write_bytes(path.read_bytes()[:60])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            warnings.simplefilter("error", ResourceWarning)
            before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
            open_image(path)
            with pytest.raises(ImageError):
                open_image(tmp_path / "bad")
            assert not before or len(os.listdir("/proc/self/fd")) == before


def test_limits_are_checked_and_honoured(tmp_path: Path) -> None:
    data = encoded(noise(), "BMP")
    path = tmp_path / "a.bmp"
    path.write_bytes(data)
    assert open_image(path, limits=ImageLimits(max_bytes=len(data), max_pixels=192)).size == (16, 12)
    for source in (path, data):
        with pytest.raises(ImageError, match="larger than the limit"):
            open_image(source, limits=ImageLimits(max_bytes=len(data) - 1))
    for source in (path, data, noise(), np.asarray(noise())):
        with pytest.raises(ImageError, match="16 x 12 pixels, more than the limit of 191"):
            open_image(source, limits=ImageLimits(max_pixels=191))
    for wrong in (0, -1, 1.5, True):
        with pytest.raises(UserError, match="max_pixels"):
            ImageLimits(max_pixels=wrong)


def test_bombs_are_refused_without_decoding(tmp_path: Path) -> None:
    deflate = zlib.compressobj(9)
    packed = b"".join(deflate.compress(bytes(9001)) for _ in range(9000)) + deflate.flush()
    (tmp_path / "real.png").write_bytes(png(9000, 9000, 8, 0, packed))  # 81 million pixels, below Pillow's own limit
    (tmp_path / "claim.png").write_bytes(png(60000, 60000, 8, 2, zlib.compress(b"\0" * 99)))
    canvas = b"VP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + (16382).to_bytes(3, "little") * 2
    (tmp_path / "canvas.webp").write_bytes(b"RIFF" + struct.pack("<I", len(canvas) + 4) + b"WEBP" + canvas)
    tags = {256: 64, 257: 64, 258: 8, 259: 8, 262: 1, 277: 1, 322: 9008, 323: 9008, 324: 134, 325: len(packed)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    tiff = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + b"\0" * 4 + packed  # one vast tile, a small picture
    (tmp_path / "tile.tif").write_bytes(tiff)
    script = (
        "import resource, sys\n"
        "from lsn_core.data.images import ImageError, open_image\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n        open_image(path)\n        sys.exit(path + ' opened')\n"
        "    except ImageError as error:\n        print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    files = [str(tmp_path / name) for name in ("real.png", "claim.png", "canvas.webp", "tile.tif")]
    done = subprocess.run(
        [sys.executable, "-c", script, *files],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 0, done.stderr
    assert "9000 x 9000" in done.stdout and "9008 x 9008" in done.stdout
    kilobytes = int(done.stdout.split()[-1]) // (1024 if sys.platform == "darwin" else 1)
    assert kilobytes < 30_000  # one decoded plane of the real one alone would be 81 MB


@pytest.mark.parametrize("kind", [*FORMATS, "LZW", "CMYK"])
def test_damaged_files_give_a_picture_or_an_image_error(kind: str) -> None:
    valid = {
        "LZW": lambda: encoded(noise(), "TIFF", compression="tiff_lzw"),
        "CMYK": lambda: encoded(noise().convert("CMYK"), "JPEG"),
    }.get(kind, lambda: encoded(noise(), kind))()
    rng = np.random.default_rng(7)
    limits = ImageLimits(max_pixels=200_000)
    refused = 0
    for trial in range(120):
        data = bytearray(valid)
        if trial % 3 == 0:
            del data[int(rng.integers(1, len(data))) :]
        else:
            for _ in range(int(rng.integers(1, 6))):
                place = rng.integers(0, len(data) if trial % 3 == 1 else min(64, len(data)))
                data[place] = rng.integers(0, 256)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                assert open_image(bytes(data), limits=limits).mode == "RGB"
            except ImageError:
                refused += 1
    assert refused > 20


def test_names_that_differ_stay_different_when_they_are_shown() -> None:
    shown = [printable(os.fsdecode(name)) for name in (b"caf\xe9", b"caf\xe8", "café".encode(), b"a\nb", b"ab")]
    assert shown == ["caf\\xe9", "caf\\xe8", "café", "a\N{REPLACEMENT CHARACTER}b", "ab"]
