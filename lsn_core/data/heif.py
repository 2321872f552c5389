"""HEIC and AVIF files: what their boxes declare, and HEIC pictures by a plugin that is loaded when it is needed.

Layout: ISO/IEC 14496-12 (boxes) and 23008-12 (items, properties, grids).
"""

from __future__ import annotations

import importlib
import io
import struct
from collections.abc import Iterator
from typing import Any

from PIL import ImageFile

from lsn_core.errors import ImageError

PLUGINS = ("pi_heif", "pillow_heif")
"""Packages that read HEIC, the first of them that is installed is used; pi_heif decodes only."""

_MOST_REFERENCES = 4096  # a photo of 50 megapixels has 200 tiles
_MOST_BOXES = 20_000
_MANY_PIXELS = 2**62


def open_heif(file: io.BytesIO, name: str) -> ImageFile.ImageFile:
    """An HEIC picture, opened but not decoded.

    Raises:
        ImageError: no plugin that reads HEIC is installed.
    """
    plugin = _plugin()
    if plugin is None:
        raise ImageError(
            f"{name}: this is an HEIC photo, as phones take them, and the package that reads them is not installed. "
            "Install it (pip install pi-heif), or save the photo as JPEG."
        )
    image: ImageFile.ImageFile = plugin.HeifImageFile(file)
    return image


def can_read_heif() -> bool:
    """Whether a plugin that reads HEIC is installed."""
    return _plugin() is not None


def _plugin() -> Any:
    for package in PLUGINS:
        try:
            return importlib.import_module(f"{package}.as_plugin")  # registers nothing
        except ImportError:
            continue
    return None


def coded_pixels(data: bytes) -> int:
    """Pixels that decoding the main picture takes: its own, those of the tiles it is put together of, and of its alpha.

    A small picture may be made of one large tile a thousand times, so its own size says nothing. 0 where the boxes
    cannot be read, which the decoder then refuses.
    """
    try:
        return _Items(data).pixels()
    except (struct.error, IndexError, KeyError, ValueError, StopIteration):
        return 0


class _Items:
    """The items of the `meta` box: sizes, and which are made of which."""

    def __init__(self, data: bytes) -> None:
        self.boxes = 0
        meta = next(body for kind, body in self._boxes(data) if kind == b"meta")[4:]
        parts: dict[bytes, bytes] = {}
        for kind, body in self._boxes(meta):
            parts.setdefault(kind, body)
        pitm = parts[b"pitm"]
        self.primary = int.from_bytes(pitm[4:8] if pitm[0] else pitm[4:6], "big")
        properties: list[int | None] = []
        self.sizes: dict[int, int] = {}
        for kind, body in self._boxes(parts[b"iprp"]):
            if kind == b"ipco":
                properties = [_area(box, inner) for box, inner in self._boxes(body)]
        for kind, body in self._boxes(parts[b"iprp"]):
            if kind == b"ipma":
                self._associate(body, properties)
        self.made_of: dict[int, list[int]] = {}
        self.auxiliary: dict[int, list[int]] = {}
        iref = parts.get(b"iref", b"\0" * 4)
        wide = 4 if iref[0] else 2
        for kind, body in self._boxes(iref[4:]):
            source, count = int.from_bytes(body[:wide], "big"), int.from_bytes(body[wide : wide + 2], "big")
            at = wide + 2
            targets = [int.from_bytes(body[at + i * wide : at + (i + 1) * wide], "big") for i in range(count)]
            if kind == b"dimg":
                self.made_of.setdefault(source, []).extend(targets)
            elif kind == b"auxl":
                for target in targets:
                    self.auxiliary.setdefault(target, []).append(source)

    def pixels(self) -> int:
        seen = 0
        waiting = [self.primary, *self.auxiliary.get(self.primary, [])]
        total = 0
        while waiting:
            item = waiting.pop()
            seen += 1
            if seen > _MOST_REFERENCES:
                return _MANY_PIXELS
            total += self.sizes.get(item, 0)
            waiting.extend(self.made_of.get(item, ()))
        return total

    def _associate(self, body: bytes, properties: list[int | None]) -> None:
        version, flags = body[0], int.from_bytes(body[1:4], "big")
        entries, at = int.from_bytes(body[4:8], "big"), 8
        id_bytes, index_bytes = 2 if version < 1 else 4, 2 if flags & 1 else 1
        for _ in range(min(entries, _MOST_BOXES)):
            item = int.from_bytes(body[at : at + id_bytes], "big")
            count = body[at + id_bytes]
            at += id_bytes + 1
            for _ in range(count):
                index = int.from_bytes(body[at : at + index_bytes], "big") & (0x7FFF if index_bytes == 2 else 0x7F)
                at += index_bytes
                area = properties[index - 1] if 0 < index <= len(properties) else None
                if area is not None:
                    self.sizes[item] = max(area, self.sizes.get(item, 0))

    def _boxes(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        at = 0
        while at + 8 <= len(data):
            self.boxes += 1
            if self.boxes > _MOST_BOXES:
                raise ValueError("too many boxes")
            size, start = int.from_bytes(data[at : at + 4], "big"), at + 8
            kind = data[at + 4 : at + 8]
            if size == 1:
                size, start = int.from_bytes(data[at + 8 : at + 16], "big"), at + 16
            elif size == 0:
                size = len(data) - at
            if size < start - at:
                raise ValueError("a box is smaller than its header")
            yield kind, data[start : at + size]
            at += size


def _area(kind: bytes, body: bytes) -> int | None:
    if kind != b"ispe":
        return None
    width, height = struct.unpack_from(">II", body, 4)
    return int(width * height)
