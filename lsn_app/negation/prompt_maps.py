"""The paper's Figure 2 on a photo that ships: where a class's learned positive and negative prompts react."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from lsn_app.negation.contrast import Contrast, choose_contrast
from lsn_app.serving.photos import read_photo
from lsn_app.serving.store import Store
from lsn_app.shared.examples import Example
from lsn_core.heatmaps.methods import DEFAULT_METHOD
from lsn_core.heatmaps.overlay import overlay, reduce

_PIXELS = 320  # of a map's longer side


@dataclass(frozen=True)
class PromptMap:
    """Where one prompt reacts.

    Attributes:
        label: the prompt.
        picture: the map over the photo, as a data link.
        likeness: correlation with the map of the positive prompt, in [-1, 1]; None for that itself.
    """

    label: str
    picture: str
    likeness: float | None


@dataclass(frozen=True)
class PromptMaps:
    """The maps of one class's prompts, the positive one first.

    Attributes:
        contrast: the detector, the photo and the class.
        method: how the maps were made.
        maps: one for each prompt.
    """

    contrast: Contrast
    method: str
    maps: tuple[PromptMap, ...]


def map_prompts(store: Store, examples: Sequence[Example]) -> PromptMaps | None:
    """The maps for the photo on which learning changes most; None where no shipped detector knows an example.

    Raises UserError where there can be no maps.
    """
    contrast = choose_contrast(store, examples)
    if contrast is None:
        return None
    detector, encoder = store.detector(contrast.label)
    photo = read_photo(str(contrast.example.path), contrast.example.path.name)
    methods = encoder.heat_map_methods
    method = DEFAULT_METHOD if DEFAULT_METHOD in methods else methods[0]
    found, picture = encoder.explain(detector, photo, contrast.truth, method, "prompts")
    small, placed = reduce(picture, found, _PIXELS)
    maps = [
        PromptMap(target.label, _link(overlay(small, placed, i)), None if i == 0 else _alike(found.values, i))
        for i, target in enumerate(found.targets)
    ]
    return PromptMaps(contrast, found.method, tuple(maps))


def _alike(values: np.ndarray, index: int) -> float:
    return float(np.corrcoef(values[0].ravel(), values[index].ravel())[0, 1])


def _link(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
