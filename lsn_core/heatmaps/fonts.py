"""A font for a caption: one that has the letters, from Pillow, Matplotlib or the system; none is brought along."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
_LIKELY = ("notosans", "cjk", "unicode", "noto", "han", "gothic", "hei", "ming")
_MOST_FONTS = 200  # that are looked into


def drawable(text: str, size: int = 14) -> tuple[str, Font]:
    """A text and a font that can draw it.

    Letters that no font here has come as their code points, such as U+72AC: a box would say nothing.
    """
    if all(letter <= "\xff" or letter == "…" for letter in text):
        return text, ImageFont.load_default(size)
    path, letters = _font_for(frozenset(text))
    shown = "".join(letter if ord(letter) in letters else f"U+{ord(letter):04X} " for letter in text).strip()
    return shown, ImageFont.truetype(path, size)


@lru_cache(maxsize=256)
def _font_for(letters: frozenset[str]) -> tuple[str, frozenset[int]]:
    """The first font with all letters, or else the one with most, and which code points of them it has."""
    wanted = {ord(letter) for letter in letters}
    best: tuple[str, frozenset[int]] = _fonts()[0], frozenset()
    for path in _fonts():
        having = frozenset(wanted & _code_points(path))
        if len(having) > len(best[1]):
            best = path, having
        if len(having) == len(wanted):
            break
    return best


@lru_cache(maxsize=1)
def _fonts() -> list[str]:
    from matplotlib import font_manager, get_data_path  # slow to import

    own = str(Path(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"))  # Latin, Greek, Cyrillic, Hebrew, Arabic
    others = sorted(font_manager.findSystemFonts(), key=lambda path: (_unlikely(path), path))
    return [own, *others[:_MOST_FONTS]]


def _unlikely(path: str) -> int:
    name = Path(path).name.lower()
    return next((place for place, part in enumerate(_LIKELY) if part in name), len(_LIKELY))


@lru_cache(maxsize=2 * _MOST_FONTS)
def _code_points(path: str) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    if "lastresort" in path.lower():  # it has a box for everything
        return frozenset()
    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()
