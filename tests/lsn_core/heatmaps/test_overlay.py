"""Pictures of heat maps: at the image's own size, on one scale, in the right place."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageFont

from lsn_core import UserError
from lsn_core.heatmaps import fonts
from lsn_core.heatmaps.maps import HeatMaps
from lsn_core.heatmaps.overlay import overlay, panel
from lsn_core.heatmaps.targets import Target

GREY = Image.new("RGB", (300, 200), (128, 128, 128))
WHOLE, MIDDLE = (0.0, 0.0, 300.0, 200.0), (50.0, 0.0, 250.0, 200.0)


def maps(*values: np.ndarray, box: tuple = MIDDLE, signed: bool = False) -> HeatMaps:
    targets = tuple(Target(f"prompt {i}", torch.zeros(2), 0.1 * i) for i in range(len(values)))
    return HeatMaps(np.array(values, dtype=np.float32), signed, targets, "grad-cam", box)


def corner(value: float = 1.0, place: tuple[int, int] = (0, 0)) -> np.ndarray:
    found = np.zeros((4, 4))
    found[place] = value
    return found


def change(picture: Image.Image) -> np.ndarray:
    return np.abs(np.asarray(picture, dtype=float) - 128).sum(axis=2)


def test_the_mark_is_where_the_place_is_in_the_image() -> None:
    drawn = overlay(GREY, maps(corner(place=(0, 3))), 0)
    assert drawn.size == GREY.size
    moved = change(drawn)
    moved[:, [*range(0, 54), *range(246, 300)]] = 0  # without the frame around what was seen
    y, x = np.unravel_index(moved.argmax(), moved.shape)
    assert x > 200 and y < 50
    assert moved[120:190, 60:150].max() == 0  # nothing to say there


def test_a_map_of_all_of_the_image_has_no_frame() -> None:
    assert change(overlay(GREY, maps(corner(0.0), box=WHOLE), 0)).max() == 0
    assert change(overlay(GREY, maps(corner(0.0)), 0)).max() > 0


def test_margins_that_the_model_saw_are_cut_off() -> None:
    left = overlay(GREY, maps(corner(place=(2, 0)), box=(0.0, -50.0, 300.0, 250.0)), 0)
    assert left.size == GREY.size and change(left)[:, :150].max() > 0
    assert change(left)[:, 160:].max() == 0


def test_maps_share_one_scale() -> None:
    weak, strong = corner(0.1), corner(1.0)
    together = maps(weak, strong, box=WHOLE)
    assert change(overlay(GREY, together, 0)).max() < 0.6 * change(overlay(GREY, together, 1)).max()
    alone = overlay(GREY, maps(weak, box=WHOLE), 0)
    np.testing.assert_array_equal(np.asarray(alone), np.asarray(overlay(GREY, maps(strong, box=WHOLE), 0)))


def test_signs_have_colours_of_their_own() -> None:
    drawn = np.asarray(overlay(GREY, maps(corner(1.0) - corner(1.0, (3, 3)), box=WHOLE, signed=True), 0), dtype=int)
    raised, lowered = drawn[5, 5], drawn[-5, -5]
    assert raised[0] > raised[2] + 60 and lowered[2] > lowered[0] + 20


def test_opacity_decides_how_much_of_the_photo_is_left() -> None:
    found = maps(corner(), box=WHOLE)
    assert change(overlay(GREY, found, 0, 0.0)).max() == 0
    assert change(overlay(GREY, found, 0, 0.3)).max() < change(overlay(GREY, found, 0, 0.9)).max()
    with pytest.raises(UserError, match="opacity"):
        overlay(GREY, found, 0, 1.5)


@pytest.mark.parametrize("size", [(300, 200), (40, 900), (2000, 30), (1, 1)])
def test_a_panel_holds_all_maps(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, (128, 128, 128))
    one = panel(image, maps(corner(), box=(0.0, 0.0, *map(float, size))))
    four = panel(image, maps(*[corner()] * 4, box=(0.0, 0.0, *map(float, size))))
    assert four.width > one.width and four.height == one.height
    assert panel(image, maps(*[corner()] * 5, box=(0.0, 0.0, *map(float, size)))).height > four.height


def test_letters_that_no_font_has_are_named_and_others_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", list)
    fonts._fonts.cache_clear()
    fonts._font_for.cache_clear()
    for text, shown in (("chien…", "chien…"), ("not собака", "not собака"), ("犬 (1)", "U+72AC  (1)")):
        drawn, font = fonts.drawable(text)
        assert drawn == shown
        box = ImageFont.truetype(font.path, 14).getmask("\U0010fffe") if text[0] > "\xff" else None  # what is not there
        assert box is None or all(bytes(font.getmask(letter)) != bytes(box) for letter in drawn if letter != " ")
    fonts._fonts.cache_clear()
    fonts._font_for.cache_clear()
