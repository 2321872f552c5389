"""Detectors whose prompts depend on the image (CoCoOp): the text tower runs for each image that is scored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lsn_core.backbones.backbone import Backbone
from lsn_core.detector.detector import Detector
from lsn_core.errors import UserError
from lsn_core.prompts.encoder import TextTower
from lsn_core.prompts.learned import NameTokens, PromptSets

_PROMPTS_AT_ONCE = 2048


class ConditionalDetector(Detector, method="cocoop"):
    """A detector with Meta-Nets: v_i(x) = v_i + m(x) (Zhou et al., 2022a).

    `positive` (C, D) and `negative` (K, C, D) are the text features at the mean training image, for display; scores
    come from `text_features` of each image. Learned prompts stand in `contexts`, under "positive." and "negative.";
    a side without any there keeps its fixed text features for every image.
    """

    def __init__(
        self, backbone: Backbone, class_names: Sequence[str], positive: Tensor, negative: Tensor, **settings: Any
    ) -> None:
        super().__init__(backbone, class_names, positive, negative, **settings)
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
        positive, negative = super().text_features(features)
        if side := self._sides["positive"]:
            positive = ensemble(self._encode(side, features))
        if side := self._sides["negative"]:
            negative = self._encode(side, features)
        return positive, negative

    def cosines(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines of image features (N, D) to the prompts made for each: positive (N, C) and negative (N, K, C)."""
        self._check_features(features)
        if not len(features):
            return super().cosines(features)
        prompts = len(self.class_names) * (1 + len(self.negative))
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
