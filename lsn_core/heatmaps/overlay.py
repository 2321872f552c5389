"""Pictures of heat maps: laid over the image at its own size, and side by side with their common scale."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lsn_core.errors import UserError
from lsn_core.heatmaps import DEFAULT_OPACITY
from lsn_core.heatmaps.fonts import Font, drawable

if TYPE_CHECKING:
    from lsn_core.heatmaps.maps import HeatMaps

# Both are safe for colour-blind eyes: dark to light for one sign, purple against orange for two.
ONE_SIGN, TWO_SIGNS = "inferno", "PuOr_r"
_CELL = 300
_MARGIN, _LINE = 12, 18
_INK, _PAPER, _FRAME = (29, 35, 45), (255, 255, 255), (0, 114, 178)
_UNSEEN = 0.45  # how far what the model did not see fades to grey


def colours(maps: HeatMaps, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Colour and strength of map values on the common scale.

    Args:
        values: any shape, in the maps' units.

    Returns:
        RGB in [0, 255], shape (..., 3), and strength in [0, 1], shape (...): 0 where the prompt has nothing to say.
    """
    from matplotlib import colormaps  # slow to import

    relative = np.clip(values / (maps.limit or 1.0), -1.0, 1.0)
    position = (relative + 1.0) / 2.0 if maps.signed else relative
    rgb = colormaps[TWO_SIGNS if maps.signed else ONE_SIGN](position)[..., :3] * 255.0
    return rgb, np.sqrt(np.abs(relative))


def overlay(image: Image.Image, maps: HeatMaps, index: int, opacity: float = DEFAULT_OPACITY) -> Image.Image:
    """One map over its image, at the image's own size; what the model did not see is faded, and its edge drawn.

    Args:
        image: the RGB picture the maps were made of.
        index: which of the N maps.
        opacity: of the strongest place, in [0, 1]; weaker places show more of the image.

    Raises:
        UserError: the opacity is out of range.
    """
    if not 0.0 <= opacity <= 1.0:
        raise UserError(f"The opacity must lie between 0 and 1, not at {opacity}.")
    left, top, right, bottom = maps.box
    grid_height, grid_width = maps.values.shape[1:]
    seen = (max(0, round(left)), max(0, round(top)), min(image.width, round(right)), min(image.height, round(bottom)))
    source = tuple(  # the seen part, as places of the grid
        min(max((edge - start) / extent * cells, 0.0), cells)
        for edge, start, extent, cells in zip(
            seen, (left, top) * 2, (right - left, bottom - top) * 2, (grid_width, grid_height) * 2, strict=True
        )
    )
    size = (seen[2] - seen[0], seen[3] - seen[1])
    raw = Image.fromarray(maps.values[index])
    values = np.asarray(raw.resize(size, Image.Resampling.BILINEAR, box=source))
    rgb, strength = colours(maps, values)
    pixels = np.asarray(image, dtype=np.float32)
    picture = pixels * (1 - _UNSEEN) + 128.0 * _UNSEEN
    window = (slice(seen[1], seen[3]), slice(seen[0], seen[2]))
    alpha = (opacity * strength)[..., None]
    picture[window] = pixels[window] * (1 - alpha) + rgb * alpha
    drawn = Image.fromarray(np.rint(picture).astype(np.uint8))
    if size != image.size:
        width = max(1, round(min(image.size) / 150))
        edge = (seen[0], seen[1], seen[2] - 1, seen[3] - 1)
        ImageDraw.Draw(drawn).rectangle(edge, outline=_FRAME, width=width)
    return drawn


def reduce(image: Image.Image, maps: HeatMaps, largest: int) -> tuple[Image.Image, HeatMaps]:
    """Image and maps at a size where the longer side has at most `largest` pixels; never enlarged."""
    smaller = image.copy()
    smaller.thumbnail((largest, largest))
    x, y = smaller.width / image.width, smaller.height / image.height
    left, top, right, bottom = maps.box
    return smaller, replace(maps, box=(left * x, top * y, right * x, bottom * y))


def colour_words(maps: HeatMaps) -> str:
    """What the two colours of these maps say, as a sentence."""
    if (maps.values < 0).any():
        return "Orange raises the value, purple lowers it."
    return "Orange raises the value."


def panel(image: Image.Image, maps: HeatMaps, opacity: float = DEFAULT_OPACITY, columns: int = 4) -> Image.Image:
    """All maps side by side, each under its label and its target's value, above the scale they share."""
    reduced, small = reduce(image, maps, 2 * _CELL)
    count = len(maps.targets)
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    height = round(_CELL * image.height / image.width)
    cell = (_CELL + _MARGIN, height + _MARGIN + 2 * _LINE)
    canvas = Image.new("RGB", (max(columns, 2) * cell[0] + _MARGIN, rows * cell[1] + 2 * _MARGIN + 4 * _LINE), _PAPER)
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(14)
    for i, target in enumerate(maps.targets):
        x, y = _MARGIN + i % columns * cell[0], _MARGIN + i // columns * cell[1]
        label, fitting = drawable(target.label)
        draw.text((x, y), _fit(draw, label, fitting), _INK, fitting)
        draw.text((x, y + _LINE), f"{target.value:.4f}", _INK, font)
        canvas.paste(overlay(reduced, small, i, opacity).resize((_CELL, height)), (x, y + 2 * _LINE))
    _draw_scale(canvas, maps, rows * cell[1] + _MARGIN, font)
    return canvas


def _draw_scale(canvas: Image.Image, maps: HeatMaps, y: int, font: Font) -> None:
    low = -maps.limit if maps.signed else 0.0
    bar = np.linspace(low, maps.limit, _CELL)[None].repeat(_LINE - 4, axis=0)
    rgb, strength = colours(maps, bar)
    swatch = rgb * strength[..., None] + 128.0 * (1 - strength[..., None])  # as over a grey photo
    canvas.paste(Image.fromarray(np.rint(swatch).astype(np.uint8)), (_MARGIN, y))
    draw = ImageDraw.Draw(canvas)
    draw.text((_MARGIN, y + _LINE), f"{low:.3g}", _INK, font)
    draw.text((_MARGIN + _CELL, y + _LINE), f"{maps.limit:.3g}", _INK, font, anchor="ra")
    signs = f"{colour_words(maps)} " if maps.signed else ""
    draw.text((_MARGIN, y + 2 * _LINE), f"{signs}{maps.method}, one scale for all.", _INK, font)
    draw.text((_MARGIN, y + 3 * _LINE), "Where the answer comes from, not where the thing is.", _INK, font)


def _fit(draw: ImageDraw.ImageDraw, text: str, font: Font) -> str:
    while draw.textlength(text, font) > _CELL and len(text) > 1:
        text = text[:-2] + "…"
    return text
