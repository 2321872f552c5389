"""What a heat map explains: a prompt's cosine, a difference of them, or the score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lsn_core.backbones.image_tower import View
from lsn_core.detector.detector import Detector
from lsn_core.errors import UserError
from lsn_core.scores import get_score


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


def prompt_targets(detector: Detector, view: View, class_name: str | None = None) -> list[Target]:
    """The cosines to a class's positive prompt and to each of its K negative prompts.

    Args:
        class_name: None is the class whose positive prompt fits best.

    Raises:
        UserError: the detector knows no such class.
    """
    positive, negative, c = prompt_features(detector, view, class_name)
    name = detector.class_names[c]
    wanted = [(f"{name}", positive[c]), *((_not(name, k, len(negative)), own[c]) for k, own in enumerate(negative))]
    return [Target(label, text, float(text @ view.feature.cpu())) for label, text in wanted]


def difference_targets(detector: Detector, view: View, class_name: str | None = None) -> list[Target]:
    """Positive minus negative: the cosine to a class's positive prompt less that to each of its K negative prompts."""
    positive, negative, c = prompt_features(detector, view, class_name)
    name = detector.class_names[c]
    directions = [positive[c] - own[c] for own in negative]
    if not directions:
        raise UserError("This detector has no negative prompts to subtract. Ask for the prompts themselves.")
    labels = [f"{name} minus {_not(name, k, len(negative))}" for k in range(len(negative))]
    return [Target(label, u, float(u @ view.feature.cpu())) for label, u in zip(labels, directions, strict=True)]


def score_target(detector: Detector, view: View) -> list[Target]:
    """The detector's own score, whose direction is its gradient at this image (its prompts taken as fixed)."""
    positive, negative, _ = prompt_features(detector, view, None)
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


def prompt_features(detector: Detector, view: View, class_name: str | None) -> tuple[Tensor, Tensor, int]:
    """Text features of all positive (C, D) and negative prompts (K, C, D), and the index of the class in question."""
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
