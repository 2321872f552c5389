"""Heat maps: which places of an image each prompt responds to, for any number of prompts after one forward pass.

A map is sensitivity, not location: it says where the model's answer to one prompt comes from, which need not be where
the thing is. Every target is a number that the model computes from the image feature f, and all a map needs of it is
its direction u, the target's derivative by f: a prompt's text feature for a cosine, a difference of two for "positive
minus negative", a gradient for a detector's score.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from lsn_core.backbones.image_tower import Box, View
from lsn_core.detector.detector import Detector
from lsn_core.errors import UserError
from lsn_core.scores import get_score

Maps = np.ndarray  # (N, h, w), float32


@dataclass(frozen=True)
class Target:
    """What a map is about.

    Attributes:
        label: what it is called.
        direction: u, shape (D,): the derivative of the target by the image feature.
        value: the target itself, such as a cosine.
    """

    label: str
    direction: Tensor
    value: float


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
        view: what `look` made of the image.
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


# -- targets -----------------------------------------------------------------------------------------------------------


def prompt_targets(detector: Detector, view: View, class_name: str | None = None) -> list[Target]:
    """The cosines to a class's positive prompt and to each of its K negative prompts.

    Args:
        class_name: None is the class whose positive prompt fits best.

    Raises:
        UserError: the detector knows no such class.
    """
    positive, negative, c = _prompts(detector, view, class_name)
    name = detector.class_names[c]
    wanted = [(f"{name}", positive[c]), *((_not(name, k, len(negative)), own[c]) for k, own in enumerate(negative))]
    return [Target(label, text, float(text @ view.feature.cpu())) for label, text in wanted]


def difference_targets(detector: Detector, view: View, class_name: str | None = None) -> list[Target]:
    """Positive minus negative: the cosine to a class's positive prompt less that to each of its K negative prompts."""
    positive, negative, c = _prompts(detector, view, class_name)
    name = detector.class_names[c]
    directions = [positive[c] - own[c] for own in negative]
    if not directions:
        raise UserError("This detector has no negative prompts to subtract. Ask for the prompts themselves.")
    labels = [f"{name} minus {_not(name, k, len(negative))}" for k in range(len(negative))]
    return [Target(label, u, float(u @ view.feature.cpu())) for label, u in zip(labels, directions, strict=True)]


def score_target(detector: Detector, view: View) -> list[Target]:
    """The detector's own score, whose direction is its gradient at this image (its prompts taken as fixed)."""
    positive, negative, _ = _prompts(detector, view, None)
    feature = view.feature.detach().cpu().requires_grad_()
    with torch.enable_grad():
        cosines = (positive @ feature)[None], (negative @ feature)[None]  # (1, C), (1, K, C)
        score = get_score(detector.score_name)(*cosines)[0]
        (direction,) = torch.autograd.grad(score, feature)
    return [Target(f"score ({detector.score_name})", direction, float(score.detach()))]


TARGETS: dict[str, Callable[..., list[Target]]] = {
    "prompts": prompt_targets,
    "difference": difference_targets,
    "score": lambda detector, view, class_name=None: score_target(detector, view),
}
"""What can be asked of a detector, by name."""


def explain(
    detector: Detector,
    view: View,
    class_name: str | None = None,
    method: str | None = None,
    target: str = "prompts",
    signed: bool = True,
) -> HeatMaps:
    """Maps of a detector's prompts on one image.

    Args:
        view: what `look(detector.backbone, image)` gave.
        class_name: None is the predicted class; of no effect on target "score".
        method: a name in `METHODS`; None is DEFAULT_METHOD.
        target: "prompts" (a class's positive prompt and its K negative ones), "difference" (positive minus each
            negative) or "score".
        signed: keep what lowers a target, see `heat_maps`.

    Raises:
        UserError: class, method or target are unknown, or do not fit the detector or its image tower.
    """
    if target not in TARGETS:
        raise UserError(f"No heat map target is called {target!r}. Known targets: {', '.join(TARGETS)}.")
    targets = TARGETS[target](detector, view, class_name)
    # In a difference, what all prompts share has gone already.
    reference = _prompts(detector, view, None)[0] if target == "prompts" else None
    return heat_maps(view, targets, method, reference, signed)


def _prompts(detector: Detector, view: View, class_name: str | None) -> tuple[Tensor, Tensor, int]:
    feature = view.feature.detach().cpu()
    positive, negative = (text[0] for text in detector.text_features(feature[None]))  # (C, D), (K, C, D)
    if class_name is None:
        return positive, negative, int((positive @ feature).argmax())
    folded = [name.lower() for name in detector.class_names]
    if class_name.lower() not in folded:
        raise UserError(
            f"The detector knows no class {class_name!r}. Its classes: {', '.join(detector.class_names[:20])}."
        )
    return positive, negative, folded.index(class_name.lower())


def _not(name: str, k: int, sets: int) -> str:
    return f"not {name}" if sets == 1 else f"not {name} ({k + 1})"


# -- methods -----------------------------------------------------------------------------------------------------------


def _grad_cam(kind: str, view: View, directions: Tensor, redundant: Tensor) -> Maps:
    activations = view.activations.expand(len(directions), -1, -1, -1)
    return _library_maps(kind, activations, _gradients(view, directions))


def _eigen_cam(view: View, directions: Tensor, redundant: Tensor) -> Maps:
    (values,) = _library_maps("EigenCAM", view.activations[None], view.activations[None])
    return np.repeat(values[None], len(directions), axis=0)  # no target has a say in it


def _library_maps(kind: str, activations: Tensor, gradients: Tensor) -> Maps:
    """pytorch-grad-cam's formula, on activations and gradients of our own and before it scales each map alone."""
    import pytorch_grad_cam  # slow to import: it brings OpenCV, Matplotlib and scikit-learn along

    cam = getattr(pytorch_grad_cam, kind)(model=torch.nn.Linear(1, 1), target_layers=[])  # its hooks would go there
    return cam.get_cam_image(None, None, None, activations.cpu().numpy(), gradients.cpu().numpy(), False)


def _gradients(view: View, directions: Tensor) -> Tensor:
    """Of each target by the activations, (N, channels, h, w), in one backward pass through the head."""
    with torch.enable_grad():
        activations = view.activations.expand(len(directions), -1, -1, -1).clone().requires_grad_()
        total = (view.head(activations) * directions).sum()
        return torch.autograd.grad(total, activations)[0]


def _legrad(view: View, directions: Tensor, redundant: Tensor) -> Maps:
    if not view.attention:
        raise UserError("legrad follows attention, and this image tower has none. Use grad-cam or clip-surgery.")
    total = torch.zeros(len(directions), view.activations[0].numel(), device=directions.device)
    for layer in view.attention[-_last_layers(len(view.attention)) :]:
        with torch.enable_grad():
            probabilities = layer.probabilities.expand(len(directions), -1, -1, -1).clone().requires_grad_()
            attended = (probabilities @ layer.values).transpose(1, 2).flatten(2)  # (N, queries, width)
            value = (layer.readout(attended) * directions).sum()
            (gradient,) = torch.autograd.grad(value, probabilities)  # (N, heads, queries, keys)
        total += gradient.relu().mean(dim=(1, 2))[:, layer.patches]
    return total.unflatten(1, view.activations.shape[1:]).cpu().numpy()


def _last_layers(count: int) -> int:
    return max(1, count // 4)


def _surgery(view: View, directions: Tensor, redundant: Tensor) -> Maps:
    if view.patch_features is None:
        raise UserError("clip-surgery reads each place by itself, and this image tower's pooling cannot. Use grad-cam.")
    # Unlike the authors', places keep their lengths, or the background would be as loud as the thing; and the mean is
    # not weighed by the classes' probabilities, or the named class would be its own redundancy where there are few.
    centred = directions - redundant
    return torch.einsum("hwd,nd->nhw", view.patch_features, centred).cpu().numpy()


@dataclass(frozen=True)
class Method:
    """A registered method.

    Attributes:
        name: as in `METHODS`.
        function: view, directions (N, D) and redundant direction (D,) -> maps (N, h, w).
        about: one line on what it is.
    """

    name: str
    function: Callable[[View, Tensor, Tensor], Maps]
    about: str


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("grad-cam", partial(_grad_cam, "GradCAM"), "activations by mean gradients (Selvaraju 2017)"),
        Method("grad-cam++", partial(_grad_cam, "GradCAMPlusPlus"), "by powers of gradients (Chattopadhay 2018)"),
        Method("layer-cam", partial(_grad_cam, "LayerCAM"), "activations by their own gradients (Jiang 2021)"),
        Method("eigen-cam", _eigen_cam, "first principal component, the same for every prompt (Muhammad 2020)"),
        Method("legrad", _legrad, "gradient of the attention over the last layers (after Bousselham 2024)"),
        Method("clip-surgery", _surgery, "similarity of each place, what all classes share subtracted (after Li 2023)"),
    )
}  # fmt: skip
DEFAULT_METHOD = "clip-surgery"


def get_method(name: str) -> Method:
    """The registered method of that name; a UserError lists the known ones."""
    if name not in METHODS:
        raise UserError(f"No heat map method is called {name!r}. Known methods: {', '.join(METHODS)}.")
    return METHODS[name]


def fitting_methods(view: View) -> list[str]:
    """Names of the methods that work on this view's image tower."""
    without = set() if view.attention else {"legrad"}
    without |= set() if view.patch_features is not None else {"clip-surgery"}
    return [name for name in METHODS if name not in without]
