"""A detector's prompts as text features: fixed ones, or ones made for each image that is scored (CoCoOp)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lsn_core.backbones.backbone import Backbone
from lsn_core.errors import UserError
from lsn_core.prompts.encoder import TextTower
from lsn_core.prompts.learned import NameTokens, PromptSets

_PROMPTS_AT_ONCE = 2048


@dataclass(frozen=True)
class FixedPrompts:
    """Text features that are the same for every image.

    Attributes:
        positive: shape (C, D), unit length, on the CPU.
        negative: K sets, shape (K, C, D), unit length, on the CPU; K may be 0.
    """

    positive: Tensor
    negative: Tensor

    def text_features(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Text features to compare images (B, D) with: (B, C, D) and (B, K, C, D)."""
        return self.positive.expand(len(features), -1, -1), self.negative.expand(len(features), -1, -1, -1)

    def cosines(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines of image features (N, D) to all prompts: positive (N, C) and negative (N, K, C)."""
        return features @ self.positive.T, torch.einsum("nd,kcd->nkc", features, self.negative)


class ConditionalPrompts:
    """Prompts with Meta-Nets, made anew for each image: v_i(x) = v_i + m(x) (Zhou et al., 2022a).

    Args:
        backbone: encodes the prompts.
        class_names: the C classes.
        fixed: text features for a side (positive or negative) that has no learned prompts.
        contexts: learned tensors, named "positive." and "negative." in front of what `PromptSets` calls them.
        config: the training config as plain values; its `with_name` of each side is read.

    Raises:
        UserError: neither side has learned prompts, or a side's have no Meta-Net or do not fit together.
    """

    def __init__(
        self,
        backbone: Backbone,
        class_names: Sequence[str],
        fixed: FixedPrompts,
        contexts: Mapping[str, Tensor],
        config: Mapping[str, Any],
    ) -> None:
        self.backbone, self.class_names, self.fixed = backbone, class_names, fixed
        self.contexts, self.config = contexts, config
        self._sides = {side: self._side(side) for side in ("positive", "negative")}
        if not any(self._sides.values()):
            raise UserError("An image-conditioned detector needs learned contexts with Meta-Nets, and there are none.")

    def _side(self, side: str) -> tuple[PromptSets, TextTower] | None:
        tensors = {k.removeprefix(f"{side}."): v for k, v in self.contexts.items() if k.startswith(f"{side}.")}
        if not tensors:
            return None
        prompts = PromptSets.from_tensors(tensors).to(self.backbone.device).requires_grad_(False)
        if not prompts.conditional:
            raise UserError(f"The {side} prompts of an image-conditioned detector have no Meta-Net.")
        _, classes, _, width = prompts.contexts.shape
        fits = classes in (1, len(self.class_names)) and width == self.backbone.width
        if not fits or prompts.meta_weight_1.shape[-1] != self.fixed.positive.shape[-1]:
            raise UserError(f"The {side} prompts of an image-conditioned detector do not fit its classes or backbone.")
        with_name = bool(self.config.get(side, {}).get("with_name", True))
        names = NameTokens.of(self.backbone, self.class_names, prompts.contexts.shape[2], with_name)
        return prompts, TextTower(self.backbone, names)

    @torch.no_grad()
    def text_features(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Text features of the prompts made for these images.

        Args:
            features: image features (B, D), unit length.

        Returns:
            Positive (B, C, D) and negative (B, K, C, D), unit length, on the CPU.
        """
        positive, negative = self.fixed.text_features(features)
        if side := self._sides["positive"]:
            positive = ensemble(self._encode(side, features))
        if side := self._sides["negative"]:
            negative = self._encode(side, features)
        return positive, negative

    def cosines(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines of image features (N, D) to the prompts made for each: positive (N, C) and negative (N, K, C)."""
        if not len(features):
            return self.fixed.cosines(features)
        prompts = len(self.class_names) * (1 + len(self.fixed.negative))
        positive, negative = [], []
        for part in features.float().cpu().split(max(1, _PROMPTS_AT_ONCE // prompts)):
            p, n = self.text_features(part)
            positive.append(torch.einsum("bd,bcd->bc", part, p))
            negative.append(torch.einsum("bd,bkcd->bkc", part, n))
        return torch.cat(positive), torch.cat(negative)

    def _encode(self, side: tuple[PromptSets, TextTower], features: Tensor) -> Tensor:
        prompts, tower = side
        text = tower.encode(prompts(features.to(self.backbone.device)))  # (B * K, C, D)
        return text.unflatten(0, (len(features), -1)).cpu()


def ensemble(features: Tensor) -> Tensor:
    """Text features of several prompts (..., K, C, D) as one: their mean, unit length again, (..., C, D)."""
    return F.normalize(features.mean(dim=-3), dim=-1)
