"""The tags of a TIFF's or an EXIF block's first directory, read without their data.

Pillow copies the data of every tag, and many tags may point at the same megabytes: 20,000 of them turn 260 KB into five
gigabytes. Layout: TIFF Revision 6.0, section 2; BigTIFF has 8 bytes where TIFF has 4.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

ORIENTATION = 0x0112
STRIP_OFFSETS, TILE_OFFSETS = 273, 324
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_WHOLE_NUMBERS = {1: "B", 3: "H", 4: "I"}


class Tag(NamedTuple):
    """One entry: its number, how many values it has, their bytes, and the value where it is one small whole number."""

    number: int
    values: int
    size: int
    value: int | None


def read_tags(data: bytes) -> list[Tag]:
    """The entries of the first directory; as many as are whole, none for anything that is no TIFF."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 16:
        return []
    big = struct.unpack_from(f"{order}H", data, 2) == (43,)
    word, count_format = ("Q", "Q") if big else ("I", "H")
    tags = []
    try:
        (at,) = struct.unpack_from(f"{order}{word}", data, 8 if big else 4)
        (entries,) = struct.unpack_from(f"{order}{count_format}", data, at)
        at += struct.calcsize(f"<{count_format}")
        for _ in range(min(entries, 65_536)):
            number, kind, count = struct.unpack_from(f"{order}HH{word}", data, at)
            at += struct.calcsize(f"<HH{word}")
            value = None
            if count == 1 and kind in _WHOLE_NUMBERS:
                (value,) = struct.unpack_from(f"{order}{_WHOLE_NUMBERS[kind]}", data, at)
            at += struct.calcsize(f"<{word}")
            tags.append(Tag(number, count, count * _SIZES.get(kind, 0), value))
    except struct.error:
        pass  # cut off: what stands before counts
    return tags
