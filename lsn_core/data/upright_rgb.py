"""Decoded pictures of any mode as upright RGB, made strip by strip: no more than two whole copies at a time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache, partial

import numpy as np
from PIL import Image

from lsn_core.data.tiff_tags import ORIENTATION, read_tags
from lsn_core.errors import ImageError

_STRIP_PIXELS = 250_000
_EXIF = b"Exif\0\0"
_IN_XMP = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = {_UPRIGHT[orientation] for orientation in (5, 6, 7, 8)}
_FROM_THE_END = {_UPRIGHT[orientation] for orientation in (3, 4, 6, 7)}  # rows of the file count from the other side
_DEPTHS = (8, 10, 12, 14, 16)


def upright_rgb(image: Image.Image, name: str, sixteen_bit_colour: bool) -> Image.Image:
    """A new picture of mode RGB, turned upright by its EXIF data and without metadata.

    Args:
        image: decoded; it is left as it is.
        name: what to call it in messages.
        sixteen_bit_colour: whether the file has 16 bits a sample, of which Pillow keeps the high byte.

    Raises:
        ImageError: every pixel of a floating point picture is NaN or infinite.
    """
    turn = _UPRIGHT.get(_orientation(image))
    to_rgb = _converter(image, name, sixteen_bit_colour)
    if image.width * image.height <= _STRIP_PIXELS:
        rgb = to_rgb(image)
        rgb = rgb.transpose(turn) if turn is not None else rgb.copy() if rgb is image else rgb
    else:
        rgb = Image.new("RGB", image.size if turn not in _SIDEWAYS else image.size[::-1])
        for top, strip in _strips(image):
            part = to_rgb(strip)
            rgb.paste(part if turn is None else part.transpose(turn), _corner(turn, top, strip.height, image.height))
    rgb.info.clear()  # an orientation left here would be applied again, by us or by whoever gets the picture
    return rgb


def _corner(turn: Image.Transpose | None, top: int, rows: int, height: int) -> tuple[int, int]:
    """Where the strip that begins at row `top` lies in the turned picture."""
    start = height - top - rows if turn in _FROM_THE_END else top
    return (start, 0) if turn in _SIDEWAYS else (0, start)


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 for a TIFF, which Pillow turns upright while loading.

    security: read here, as Pillow's `getexif` copies the data of all tags (see `tiff_tags`).
    """
    if image.format == "TIFF":
        return 1
    exif = image.info.get("exif") or _profile(image.info.get("Raw profile type exif"))
    while isinstance(exif, bytes) and exif.startswith(_EXIF):
        exif = exif[len(_EXIF) :]
    tags = read_tags(exif) if isinstance(exif, bytes) else []
    orientations = [tag.value for tag in tags if tag.number == ORIENTATION]
    if orientations:
        return orientations[-1] or 1
    xmp = image.info.get("XML:com.adobe.xmp") or image.info.get("xmp") or b""
    match = _IN_XMP.search(xmp if isinstance(xmp, bytes) else str(xmp).encode())
    return int(match[1]) if match else 1


def _profile(text: object) -> bytes:
    """EXIF as ImageMagick writes it into a PNG: three lines, then hexadecimal digits."""
    try:
        return bytes.fromhex("".join(text.split("\n")[3:])) if isinstance(text, str) else b""
    except ValueError:
        return b""


def _converter(image: Image.Image, name: str, sixteen_bit_colour: bool) -> Callable[[Image.Image], Image.Image]:
    """What makes a strip of this picture RGB; how grey levels are scaled is decided on the whole of it."""
    key = image.info.get("transparency")
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return partial(_grey, levels=_scale(image, name), key=key if isinstance(key, int) else None)
    if sixteen_bit_colour and isinstance(key, tuple):  # Pillow keeps the high byte of each sample, but the whole key
        return partial(_on_white, key=tuple(value >> 8 for value in key))
    if image.has_transparency_data or image.mode in ("La", "RGBa"):
        return _on_white
    return lambda strip: strip if strip.mode == "RGB" else strip.convert("RGB")


def _on_white(strip: Image.Image, key: tuple[int, ...] | None = None) -> Image.Image:
    if strip.mode in ("La", "RGBa"):  # premultiplied alpha
        strip = strip.convert("LA" if strip.mode == "La" else "RGBA")
    if key is not None:
        strip = strip.copy()
        strip.info["transparency"] = key
    picture = strip.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


def _grey(strip: Image.Image, levels: Callable[[np.ndarray], np.ndarray], key: int | None) -> Image.Image:
    values = np.asarray(strip)
    grey = levels(values)
    return Image.fromarray(grey if key is None else np.where(values == key, np.uint8(255), grey)).convert("RGB")


def _scale(image: Image.Image, name: str) -> Callable[[np.ndarray], np.ndarray]:
    """How the values of a grey picture become 0 to 255."""
    low, high = np.inf, -np.inf
    for _, strip in _strips(image):
        values = np.asarray(strip)
        values = values[np.isfinite(values)]
        if values.size:
            low, high = min(low, float(values.min())), max(high, float(values.max()))
    if image.mode != "F" and low >= 0 and high <= 65535:
        # A transparent grey level is one of 16 bits; sensors' files, which have no such thing, may use fewer.
        sixteen = image.mode != "I" and image.info.get("transparency") is not None
        return _eight_bits(16 if sixteen else next(bits for bits in _DEPTHS if high < 2**bits)).__getitem__
    if low > high:
        raise ImageError(f"{name}: every pixel of this floating point image is NaN or infinite. Export it again.")
    if image.mode == "F" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    return partial(_stretched, low=low, high=high)


@cache
def _eight_bits(bits: int) -> np.ndarray:
    """Grey levels of so many bits as 0 to 255, shape (65536,)."""
    most = 2**bits - 1
    return ((np.arange(65536).clip(max=most) * 255 + most // 2) // most).astype(np.uint8)


def _stretched(values: np.ndarray, low: float, high: float) -> np.ndarray:
    if high == low:
        return np.zeros(values.shape, np.uint8)
    finite = np.isfinite(values)
    scaled = (np.where(finite, values, low).astype(np.float64) - low) / (high - low)
    return np.where(finite, np.rint(scaled * 255), 0).astype(np.uint8)
