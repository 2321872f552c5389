"""Names of files that can be shown, whatever is in them."""

from __future__ import annotations

import re

# Control characters of terminals, line separators, and those that set the direction of what follows (Unicode TR 9).
_STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")

_BAD_BYTE = re.compile("[\ud800-\udfff]")  # how Python has bytes of a name that are not UTF-8


def printable(text: str) -> str:
    """A file name that can be shown: what would steer a terminal or turn the order of letters becomes a mark, and bytes
    that are not UTF-8 become `\\xe9`, so that names that differ stay different."""
    if text.isascii() and text.isprintable():  # most names; a set may have a million of them
        return text
    return _STEERING.sub("\N{REPLACEMENT CHARACTER}", _BAD_BYTE.sub(_escaped, text))


def _escaped(match: re.Match[str]) -> str:
    number = ord(match[0])
    return f"\\x{number - 0xDC00:02x}" if 0xDC80 <= number <= 0xDCFF else "?"
