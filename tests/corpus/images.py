"""Image files of every honest kind: their pixels must come out."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from tests.corpus import pictures
from tests.corpus.case import Case
from tests.corpus.pictures import chunk, encoded, noise, png, smooth

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
SUFFIX = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp", "BMP": ".bmp", "GIF": ".gif", "TIFF": ".tif"}
SIZES = ((1, 1), (7, 5), (64, 48), (200, 3))
LOSSY = 12  # of 255, what JPEG may change of a gradient


@dataclass(frozen=True)
class Pixels:
    """The picture that must come out.

    Attributes:
        values: uint8, shape (H, W, 3).
        tolerance: largest difference, 0 where the format keeps every value.
    """

    values: np.ndarray
    tolerance: int = 0


def honest_cases() -> list[Case]:
    """All of them."""
    makers = (_modes, _compressions, _orientations, _transparency, _profiles, _frames, _suffixes, _carriers)
    return [case for maker in makers for case in maker()]


def image_case(family: str, name: str, make: Callable[[], bytes] | bytes, right: Any, suffix: str = ".png") -> Case:
    """One of these families."""
    file = f"{family} {name}".replace("/", "-").replace(" ", "_").replace(".", "_") + suffix
    return Case("image", f"images, {family}", name, make if callable(make) else lambda: make, right, file)


def _honest(family: str, name: str, kind: str, image: Image.Image, values: np.ndarray, **options: Any) -> Case:
    right = Pixels(values, LOSSY if kind == "JPEG" else 0)
    return image_case(family, name, partial(encoded, image, kind, **options), right, SUFFIX[kind])


def _grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None], 3, axis=2)


def _in_mode(mode: str, seed: int, width: int, height: int) -> tuple[Image.Image, np.ndarray]:
    """A picture of this mode and the colours that it shows, by the rules that docs and docstrings give."""
    grey = noise(seed, width, height, 1)
    if mode == "1":
        return Image.fromarray(grey > 127), _grey(np.where(grey > 127, 255, 0).astype(np.uint8))
    if mode == "L":
        return Image.fromarray(grey), _grey(grey)
    if mode == "P":
        palette = noise(seed + 1, 16, 1)[0]  # (16, 3)
        image = Image.fromarray(grey % 16).convert("P")
        image.putpalette(palette.tobytes())
        return image, palette[grey % 16]
    if mode == "I;16":
        deep = noise(seed, width, height, 1, 65536)
        return Image.fromarray(deep), _grey(np.rint(deep * (255 / 65535)).astype(np.uint8))
    if mode == "F":
        levels = grey.astype(np.float32) / 255
        return Image.fromarray(levels), _grey(np.rint(levels.astype(np.float64) * 255).astype(np.uint8))
    colours = noise(seed, width, height)
    if mode in ("RGBA", "LA"):
        opaque = np.full((height, width, 1), 255, np.uint8)
        shown = colours if mode == "RGBA" else _grey(grey)
        stored = np.concatenate([colours if mode == "RGBA" else grey[..., None], opaque], axis=2)
        return Image.fromarray(stored, mode), shown
    if mode == "CMYK":  # without black: each ink takes its complement away
        inks = np.concatenate([255 - colours, np.zeros((height, width, 1), np.uint8)], axis=2)
        return Image.fromarray(inks, "CMYK"), colours
    return Image.fromarray(colours), colours


def _modes() -> Iterator[Case]:
    modes = {
        "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
        "TIFF": ("1", "L", "P", "RGB", "RGBA", "I;16", "F", "CMYK"),
        "BMP": ("1", "L", "P", "RGB"),
        "GIF": ("L", "P"),
        "WEBP": ("RGB", "RGBA"),
    }
    for kind, list_of_modes in modes.items():
        for mode in list_of_modes:
            for seed, (width, height) in enumerate(SIZES):
                image, values = _in_mode(mode, 10 * seed, width, height)
                options = {"lossless": True} if kind == "WEBP" else {}
                yield _honest("formats", f"{kind} {mode} {width} x {height}", kind, image, values, **options)
    for seed, (width, height) in enumerate(SIZES):
        colours = smooth(seed, width, height)
        yield _honest("formats", f"JPEG RGB {width} x {height}", "JPEG", Image.fromarray(colours), colours, quality=95)
        inks = np.concatenate([255 - colours, np.zeros((height, width, 1), np.uint8)], axis=2)
        cmyk = Image.fromarray(inks, "CMYK")
        yield _honest("formats", f"JPEG CMYK {width} x {height}", "JPEG", cmyk, colours, quality=95)


def _compressions() -> Iterator[Case]:
    colours = noise(5, 40, 30)
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"):
        for mode in ("RGB", "L", "RGBA", "CMYK"):
            image, values = _in_mode(mode, 6, 40, 30)
            yield _honest("compressions", f"TIFF {compression} {mode}", "TIFF", image, values, compression=compression)
    for level in (0, 1, 9):
        image = Image.fromarray(colours)
        yield _honest("compressions", f"PNG level {level}", "PNG", image, colours, compress_level=level)
    even = smooth(6, 90, 70)
    for progressive in (False, True):
        for sampling in ("4:4:4", "4:2:2", "4:2:0"):
            name = f"JPEG {sampling}{' progressive' * progressive}"
            options = {"subsampling": sampling, "progressive": progressive, "quality": 92}
            yield _honest("compressions", name, "JPEG", Image.fromarray(even), even, **options)


def _orientations() -> Iterator[Case]:
    upright = noise(7, 21, 13)
    even = smooth(8, 32, 16)
    for turn in range(1, 9):
        for kind in ("PNG", "TIFF", "WEBP"):
            stored = Image.fromarray(pictures.stored_as(upright, turn))
            exif = Image.Exif()
            exif[0x0112] = turn
            options = {"lossless": True} if kind == "WEBP" else {}
            yield _honest("EXIF orientations", f"{kind} {turn}", kind, stored, upright, exif=exif, **options)
        stored = Image.fromarray(pictures.stored_as(even, turn))
        for order in "<>":
            exif = b"Exif\0\0" + pictures.exif_of(turn, order)
            name = f"JPEG {turn}, {'little' if order == '<' else 'big'} endian"
            yield _honest("EXIF orientations", name, "JPEG", stored, even, exif=exif, quality=95, subsampling="4:4:4")
    for wrong in (0, 9, 255, 65535):
        exif = pictures.exif_of(wrong)
        yield _honest("EXIF orientations", f"PNG {wrong}", "PNG", Image.fromarray(upright), upright, exif=exif)


def _transparency() -> Iterator[Case]:
    colours = noise(9, 12, 9).astype(int)
    for alpha in (0, 51, 128, 255):
        layer = np.full((9, 12, 1), alpha)
        shown = np.rint((colours * alpha + 255 * (255 - alpha)) / 255).astype(np.uint8)
        image = Image.fromarray(np.concatenate([colours, layer], axis=2).astype(np.uint8), "RGBA")
        for kind in ("PNG", "TIFF", "WEBP"):
            options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
            case = _honest("transparency", f"{kind}, alpha {alpha}", kind, image, shown, **options)
            yield Case(case.kind, case.family, case.name, case.make, Pixels(shown, 1), case.file)
    indexed, values = _in_mode("P", 11, 12, 9)
    for clear in (0, 3, 15):
        shown = np.where(np.asarray(indexed)[..., None] == clear, 255, values).astype(np.uint8)
        for kind in ("PNG", "GIF"):
            yield _honest("transparency", f"{kind}, clear palette {clear}", kind, indexed, shown, transparency=clear)
    for depth, key in ((8, 5), (16, 0x1234)):
        form = ">BB" if depth == 8 else ">HH"
        row = zlib.compress(b"\0" + struct.pack(form, key, key + 257 * (depth == 16) + 1))
        other = key + 1 if depth == 8 else round((key + 258) * 255 / 65535)
        shown = np.array([[[255] * 3, [other] * 3]], np.uint8)
        made = png(2, 1, depth, 0, chunk(b"tRNS", struct.pack(">H", key)), pixels=row)
        yield image_case("transparency", f"PNG, clear grey of {depth} bits", made, Pixels(shown))


def _profiles() -> Iterator[Case]:
    fresh = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    srgb = fresh[:24] + bytes([7, 208, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0]) + fresh[36:]  # made at the start of the year 2000
    made = {"sRGB": srgb, "rubbish": bytes(range(256)), "cut": srgb[:100], "of 200 KB": srgb + bytes(200_000)}
    for kind in ("PNG", "JPEG", "WEBP", "TIFF"):
        values = smooth(13, 30, 20)
        for name, profile in made.items():
            options = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind == "JPEG" else {}
            image = Image.fromarray(values)
            yield _honest("colour profiles", f"{kind}, {name}", kind, image, values, icc_profile=profile, **options)


def _frames() -> Iterator[Case]:
    for count in (2, 5, 40):
        frames = [Image.fromarray(np.full((9, 12, 3), 6 * i + 10, np.uint8)) for i in range(count)]
        for kind in ("GIF", "PNG", "WEBP", "TIFF"):
            options = {"lossless": True} if kind == "WEBP" else {}
            first = np.full((9, 12, 3), 10, np.uint8)
            name = f"{kind} of {count}"
            yield _honest(
                "animations", name, kind, frames[0], first, save_all=True, append_images=frames[1:], **options
            )


def _suffixes() -> Iterator[Case]:
    values = smooth(14, 30, 20)
    for kind in FORMATS:
        if kind == "GIF":
            image, shown = _in_mode("P", 15, 30, 20)
        else:
            image, shown = Image.fromarray(values), values
        options = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind == "JPEG" else {}
        data = encoded(image, kind, **options)
        for other in FORMATS:
            if other != kind:
                right = Pixels(shown, LOSSY if kind == "JPEG" else 0)
                yield image_case("wrong suffix", f"{kind} called {SUFFIX[other]}", data, right, SUFFIX[other])


def _carriers() -> Iterator[Case]:
    """Pictures with something behind them, which is no part of the picture."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(zipfile.ZipInfo("evil.py"), "raise SystemExit")  # ZipInfo: the same bytes at any time of day
    tails = {
        "zip": archive.getvalue(),
        "script": b"<script>alert(1)</script>",
        "PHP": b"<?php system($_GET[0]); ?>",
        "a second picture": encoded(Image.fromarray(noise(1)), "PNG"),
        "zeros": bytes(100_000),
    }
    values = smooth(16, 30, 20)
    for kind in ("PNG", "JPEG", "BMP", "TIFF"):
        options = {"quality": 95} if kind == "JPEG" else {}
        data = encoded(Image.fromarray(values), kind, **options)
        for name, tail in tails.items():
            right = Pixels(values, LOSSY if kind == "JPEG" else 0)
            yield image_case("polyglots", f"{kind} before {name}", data + tail, right, SUFFIX[kind])
