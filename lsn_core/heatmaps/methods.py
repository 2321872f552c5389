"""How heat maps are made: one function a method, in a registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from lsn_core.backbones.image_tower import View
from lsn_core.errors import UserError

Maps = np.ndarray  # (N, h, w), float32


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
        sees_text: whether a map depends on what is asked; else all maps of an image are the same.
    """

    name: str
    function: Callable[[View, Tensor, Tensor], Maps]
    about: str
    sees_text: bool = True


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("grad-cam", partial(_grad_cam, "GradCAM"), "activations by mean gradients (Selvaraju 2017)"),
        Method("grad-cam++", partial(_grad_cam, "GradCAMPlusPlus"), "by powers of gradients (Chattopadhay 2018)"),
        Method("layer-cam", partial(_grad_cam, "LayerCAM"), "activations by their own gradients (Jiang 2021)"),
        Method(
            "eigen-cam",
            _eigen_cam,
            "first principal component of the activations, which no text has a say in (Muhammad 2020)",
            sees_text=False,
        ),
        Method("legrad", _legrad, "gradient of the attention over the last layers (after Bousselham 2024)"),
        Method("clip-surgery", _surgery, "similarity of each place, what all classes share subtracted (after Li 2023)"),
    )
}


DEFAULT_METHOD = "clip-surgery"


def get_method(name: str) -> Method:
    """The registered method of that name; a UserError lists the known ones."""
    if name not in METHODS:
        raise UserError(f"No heat map method is called {name[:60]!r}. Known methods: {', '.join(METHODS)}.")
    return METHODS[name]


def fitting_methods(view: View) -> list[str]:
    """Names of the methods that work on this view's image tower."""
    without = set() if view.attention else {"legrad"}
    without |= set() if view.patch_features is not None else {"clip-surgery"}
    return [name for name in METHODS if name not in without]
