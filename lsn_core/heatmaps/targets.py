"""What a heat map explains: a prompt's cosine, a difference of them, or the score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lsn_core.backbones.image_tower import View
from lsn_core.class_names import find_name
from lsn_core.detector.detector import Detector
from lsn_core.detector.prompts import FixedPrompts
from lsn_core.errors import UserError
from lsn_core.scores.registry import total


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
class ImagePrompts:
    """A detector's prompts as one image meets them; with CoCoOp they are made for it, which takes the text tower.

    Attributes:
        detector: whose prompts.
        view: of the image.
        positive: text features, shape (C, D), unit length.
        negative: of K sets, shape (K, C, D), unit length.
    """

    detector: Detector
    view: View
    positive: Tensor
    negative: Tensor

    @classmethod
    def of(cls, detector: Detector, view: View) -> ImagePrompts:
        """The prompts for this image."""
        positive, negative = detector.text_features(view.feature.detach().cpu()[None])
        return cls(detector, view, positive[0], negative[0])

    def find_class(self, class_name: str | None) -> int:
        """Index of a class, in any spelling (see `fold_name`); None is the one whose positive prompt fits best.

        Raises:
            UserError: the detector knows no such class.
        """
        if class_name is None:
            return int((self.positive @ self.view.feature.detach().cpu()).argmax())
        names = self.detector.class_names
        index = find_name(class_name, names)
        if index is None:
            raise UserError(f"The detector knows no class {class_name[:60]!r}. Its classes: {', '.join(names[:20])}.")
        return index


def prompt_targets(prompts: ImagePrompts, class_name: str | None = None) -> list[Target]:
    """The cosines to a class's positive prompt and to each of its K negative prompts.

    Args:
        class_name: None is the class whose positive prompt fits best.

    Raises:
        UserError: the detector knows no such class.
    """
    positive, negative, c = prompts.positive, prompts.negative, prompts.find_class(class_name)
    name = prompts.detector.class_names[c]
    wanted = [(f"{name}", positive[c]), *((_not(prompts, name, k), own[c]) for k, own in enumerate(negative))]
    return [Target(label, text, float(text @ prompts.view.feature.cpu())) for label, text in wanted]


def difference_targets(prompts: ImagePrompts, class_name: str | None = None) -> list[Target]:
    """Positive minus negative: the cosine to a class's positive prompt less that to each of its K negative prompts."""
    positive, negative, c = prompts.positive, prompts.negative, prompts.find_class(class_name)
    name = prompts.detector.class_names[c]
    directions = [positive[c] - own[c] for own in negative]
    if not directions:
        raise UserError("This detector has no negative prompts to subtract. Ask for the prompts themselves.")
    labels = [f"{name} minus {_not(prompts, name, k)}" for k in range(len(negative))]
    feature = prompts.view.feature.cpu()
    return [Target(label, u, float(u @ feature)) for label, u in zip(labels, directions, strict=True)]


def score_target(prompts: ImagePrompts) -> list[Target]:
    """The detector's own score, whose direction is its gradient at this image (its prompts taken as fixed)."""
    score_name = prompts.detector.score_name
    feature = prompts.view.feature.detach().cpu().requires_grad_()
    with torch.enable_grad():
        inputs = prompts.detector.score_inputs(feature[None], FixedPrompts(prompts.positive, prompts.negative))
        score = total(prompts.detector.parts(inputs))[0]
        (direction,) = torch.autograd.grad(score, feature)
    return [Target(f"score ({score_name})", direction, float(score.detach()))]


TARGETS: dict[str, Callable[[ImagePrompts, str | None], list[Target]]] = {
    "prompts": prompt_targets,
    "difference": difference_targets,
    "score": lambda prompts, class_name: score_target(prompts),
}
"""What can be asked of a detector, by name."""


def _not(prompts: ImagePrompts, name: str, k: int) -> str:
    number = "" if len(prompts.negative) == 1 else f" ({k + 1})"
    written = prompts.detector.config.get("method") == "zero-shot"
    return f"not {name}{number}" if written else f"learned no to {name}{number}"
