"""Heat maps: which places of an image each prompt responds to, for any number of prompts after one forward pass.

A map is sensitivity, not location: it says where the model's answer to one prompt comes from, which need not be where
the thing is. Every target is a number that the model computes from the image feature f, and all a map needs of it is
its direction u, the target's derivative by f: a prompt's text feature for a cosine, a difference of two for "positive
minus negative", a gradient for a detector's score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lsn_core.backbones.image_tower import Box, View, view_image
from lsn_core.data.images import ImageSource, open_image
from lsn_core.detector.detector import Detector
from lsn_core.errors import UserError
from lsn_core.heatmaps.methods import DEFAULT_METHOD, Maps, get_method
from lsn_core.heatmaps.targets import TARGETS, ImagePrompts, Target


@dataclass(frozen=True)
class HeatMaps:
    """Maps of one image that can be compared with one another.

    Attributes:
        values: float32, shape (N, h, w), on the tower's own grid, in the method's own units.
        signed: whether places that lower a target count, below 0; else they are at 0, as Grad-CAM was published.
        targets: the N targets.
        method: name in `METHODS`.
        box: what the model saw of the image, see `View`.
    """

    values: Maps
    signed: bool
    targets: tuple[Target, ...]
    method: str
    box: Box

    @property
    def limit(self) -> float:
        """The largest absolute value over all maps: the end of their common scale; 0 where all are empty."""
        return float(np.abs(self.values).max(initial=0.0))


def heat_maps(
    view: View,
    targets: Sequence[Target],
    method: str | None = None,
    reference: Tensor | None = None,
    signed: bool = True,
) -> HeatMaps:
    """One map for each target.

    Args:
        view: what `view_image` made of the image.
        targets: at least one, with directions of shape (D,).
        method: a name in `METHODS`; None is DEFAULT_METHOD.
        reference: text features (M, D) whose mean `clip-surgery` subtracts as redundant, such as those of all classes'
            positive prompts; None subtracts nothing.
        signed: keep what lowers a target. A negative prompt says most there: the class itself pushes it down.

    Raises:
        UserError: the method is unknown, or this image tower has nothing that it could work on.
    """
    chosen = get_method(method or DEFAULT_METHOD)
    directions = torch.stack([target.direction for target in targets]).to(view.feature)  # (N, D)
    if directions.shape[1:] != view.feature.shape:
        raise UserError(
            f"Targets of size {directions.shape[1]} and an image feature of {len(view.feature)} are of another model."
        )
    redundant = torch.zeros_like(view.feature) if reference is None else reference.to(view.feature).mean(dim=0)
    values = chosen.function(view, directions, redundant)
    values = np.asarray(values if signed else np.maximum(values, 0.0), dtype=np.float32)
    return HeatMaps(values, signed, tuple(targets), chosen.name, view.box)


def explain(
    detector: Detector,
    image: ImageSource | View,
    class_name: str | None = None,
    method: str | None = None,
    target: str = "prompts",
    signed: bool = True,
) -> HeatMaps:
    """Maps of a detector's prompts on one image.

    Args:
        detector: whose prompts; its backbone sees the image.
        image: a path, encoded bytes or a picture; or what `view_image(detector.backbone, picture)` gave, where several
            things are asked of one image.
        class_name: None is the predicted class; of no effect on target "score".
        method: a name in `METHODS`; None is DEFAULT_METHOD.
        target: "prompts" (a class's positive prompt and its K negative ones), "difference" (positive minus each
            negative) or "score".
        signed: keep what lowers a target, see `heat_maps`.

    Raises:
        UserError: the image cannot be read, or class, method or target are unknown or do not fit the detector or its
            image tower.

    Examples:
        >>> from lsn_core import Detector, explain, load_backbone
        >>> detector = Detector.zero_shot(load_backbone("embedded", "cpu"), ["dog", "cat"])
        >>> maps = explain(detector, "assets/examples/dog.jpg")
        >>> maps.values.shape, [target.label for target in maps.targets]
        ((2, 7, 7), ['dog', 'not dog'])
    """
    if target not in TARGETS:
        raise UserError(f"No heat map target is called {target[:60]!r}. Known targets: {', '.join(TARGETS)}.")
    view = image if isinstance(image, View) else view_image(detector.backbone, open_image(image))
    prompts = ImagePrompts.of(detector, view)
    # In a difference, what all prompts share has gone already.
    reference = prompts.positive if target == "prompts" else None
    return heat_maps(view, TARGETS[target](prompts, class_name), method, reference, signed)
