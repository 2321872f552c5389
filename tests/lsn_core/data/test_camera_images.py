"""Photos as phones and cameras write them: read, used with a warning, or named with the way out."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features
from support import encoded, noise, pixels

from lsn_core.data.heif import PLUGINS
from lsn_core.data.images import ImageError, ImageLimits, open_image

PHOTO = Path(__file__).parents[3] / "assets" / "examples" / "dog.jpg"
HEIC = Path(__file__).parents[2] / "fixtures" / "heic" / "dog.heic"


def test_heic_photos_are_read() -> None:
    image, photo = open_image(HEIC), Image.open(PHOTO).resize((256, 256))
    assert image.size == (256, 256) and image.mode == "RGB"
    assert np.abs(np.asarray(image).astype(int) - np.asarray(photo)).mean() < 6
    with pytest.raises(ImageError, match="damaged or incomplete"):
        open_image(HEIC.read_bytes()[:9000])
    with pytest.raises(ImageError, match="MiB of memory"):
        open_image(HEIC, limits=ImageLimits(max_memory=300_000))


def test_without_the_package_heic_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in PLUGINS:
        monkeypatch.setitem(sys.modules, f"{package}.as_plugin", None)
    with pytest.raises(ImageError, match=r"an HEIC photo.*pip install pi-heif.*save the photo as JPEG"):
        open_image(HEIC)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif_is_read_and_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = open_image(encoded(Image.open(PHOTO), "AVIF", quality=90))
    assert np.abs(np.asarray(image).astype(int) - np.asarray(Image.open(PHOTO))).mean() < 6
    assert open_image(encoded(noise(size=(16, 32)), "AVIF", exif=exif)).size == (16, 32)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_lacks_only_its_end_marker_is_used(progressive: bool, caplog: pytest.LogCaptureFixture) -> None:
    data = encoded(Image.open(PHOTO), "JPEG", progressive=progressive)
    for cut in (1, 2):
        told: list[str] = []
        assert pixels(data[:-cut], name="a.jpg", on_warning=told.append) == pixels(data)
        assert len(told) == 1 and told[0].startswith("a.jpg: this JPEG lacks its end marker")
    open_image(data[:-2])
    assert "lacks its end marker" in caplog.text
    for cut in (12, 500, len(data) // 2):
        with pytest.raises(ImageError, match="a part of it is missing"):
            open_image(data[:-cut])


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_grey_of_fewer_bits_is_scaled_by_its_real_range(bits: int) -> None:
    most = 2**bits - 1
    values = np.linspace(0, most, 64).round().astype(np.uint16)
    wanted = np.rint(values.astype(float) * 255 / most).astype(int)
    stored = Image.fromarray(values[None])
    for data in (
        encoded(stored, "PNG"),
        encoded(stored, "TIFF"),
        encoded(Image.fromarray(values[None].astype("<i4")), "TIFF"),
    ):
        assert np.abs(np.array(pixels(data))[0, :, 0] - wanted).max() <= 1


DNG = struct.pack("<2sHIH", b"II", 42, 8, 1) + struct.pack("<HHII", 0xC612, 1, 4, 0x01010101) + bytes(20)


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.dng", DNG, "camera's raw file.*Export it as JPEG"),
        ("a.tif", DNG, "camera's raw file"),
        ("a.NEF", b"MM\0*" + bytes(40), "camera's raw file"),
        ("a.cr2", b"II*\0\x10\0\0\0CR\2\0" + bytes(40), "camera's raw file"),
        ("a.cr3", b"\0\0\0\x18ftypcrx " + bytes(40), "camera's raw file"),
        ("a.jpg", b"%PDF-1.7", "a PDF document.*Export its pages"),
        ("a.svg", b"<?xml version='1.0'?>\n<svg/>", "an SVG drawing"),
        ("a.jxl", b"\xff\x0a" + bytes(40), "JPEG XL"),
        ("a.jp2", b"\0\0\0\x0cjP  \r\n" + bytes(40), "JPEG 2000"),
        ("a.psd", b"8BPS" + bytes(40), "Photoshop"),
        ("a.mp4", b"\0\0\0\x18ftypisom" + bytes(40), "a video"),
        ("a.dcm", bytes(128) + b"DICM" + bytes(40), "DICOM"),
        ("a.jpg", bytes(500), "zero bytes"),
        ("a.jpg", b"PK\3\4" + bytes(40), "a zip archive"),
    ],
)
def test_other_formats_are_named_with_the_way_out(name: str, data: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=rf"^{name}: this is .*{reason}"):
        open_image(data, name=name)
