"""Scores images by prompts: what a detector is without a threshold."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from torch import Tensor

from lsn_core.backbones.backbone import Backbone
from lsn_core.class_names import check_class_names
from lsn_core.detector.fit import Fit
from lsn_core.detector.prompts import ConditionalPrompts, FixedPrompts
from lsn_core.errors import UserError
from lsn_core.prompts.nouns import noun_features, unlike
from lsn_core.prompts.written import POSITIVE_TEMPLATE, fill
from lsn_core.scores.registry import (
    BIAS,
    MEANS,
    NEGATIVES,
    NOUNS,
    PHOTOS,
    UNITS,
    Parts,
    Prompts,
    ScoreInputs,
    Units,
    check_usable,
    score_parts,
    total,
)


class PromptScorer:
    """Positive and negative prompts of C classes as text features, and the scores that can be made of them.

    `Detector` tells of the attributes.
    """

    def __init__(
        self,
        backbone: Backbone,
        class_names: Sequence[str],
        positive: Tensor,
        negative: Tensor,
        score_name: str,
        config: dict[str, Any],
        contexts: dict[str, Tensor],
        fit: Fit,
    ) -> None:
        self.class_names = check_class_names(class_names)
        shape = (len(self.class_names), positive.shape[-1])
        if positive.shape != shape or negative.ndim != 3 or negative.shape[1:] != shape:
            raise UserError(
                f"Text features of shapes {tuple(positive.shape)} and {tuple(negative.shape)} do not fit "
                f"{len(self.class_names)} classes; (C, D) and (K, C, D) are wanted."
            )
        self.backbone = backbone
        self.positive = positive.detach().float().cpu()
        self.negative = negative.detach().float().cpu()
        self.config, self.contexts, self.fit = config, contexts, fit
        fixed = FixedPrompts(self.positive, self.negative)
        self.prompts: FixedPrompts | ConditionalPrompts = fixed
        if config.get("method") == "cocoop":
            self.prompts = ConditionalPrompts(backbone, self.class_names, fixed, contexts, config)
        self.score_name = score_name
        check_usable(score_name, len(self.class_names), self.has)

    def text_features(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Text features of the prompts that these images (B, D) are compared with: (B, C, D) and (B, K, C, D)."""
        return self.prompts.text_features(features)

    def cosines(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines of image features (N, D) to all prompts: positive (N, C) and negative (N, K, C)."""
        self._check_features(features)
        return self.prompts.cosines(features.float().cpu())

    def _check_features(self, features: Tensor) -> None:
        if features.ndim != 2 or features.shape[1] != self.positive.shape[1]:
            raise UserError(
                f"Image features of shape {tuple(features.shape)} do not fit this detector, which wants "
                f"(N, {self.positive.shape[1]}). Encode the images with {self.backbone.name}."
            )

    def inputs(self, features: Tensor) -> ScoreInputs:
        """What scores of image features (N, D) are made of."""
        self._check_features(features)
        return self.score_inputs(features.float().cpu(), self.prompts)

    def score_inputs(self, features: Tensor, prompts: Prompts) -> ScoreInputs:
        """The same with other prompts, differentiable in features on the CPU where the prompts are."""
        return ScoreInputs(
            features,
            prompts,
            lambda: self.written,
            self.backbone.temperature,
            lambda: self._nouns,
            self.fit.photos,
            self.fit.test_unit,
            self.backbone.bias,
        )

    def score_features(self, features: Tensor, score: str | None = None) -> Tensor:
        """Scores of image features (N, D): shape (N,), fp32, higher = more in-distribution.

        Args:
            score: a name in `scores.registry.SCORES`; None is the detector's own.

        Raises:
            UserError: the score cannot serve this detector; the message lists those that can.
        """
        return total(self.parts(self.inputs(features), score))

    def parts(self, inputs: ScoreInputs, score: str | None = None, units: Units | None = None) -> Parts:
        """What adds up to a score of N images, shape (N,) each.

        Args:
            score: as for `score_features`, which says what is raised.
            units: of the terms of a sum; None is the detector's own.
        """
        name = score or self.score_name
        check_usable(name, len(self.class_names), self.has if units is None else self.has | {UNITS})
        return score_parts(name, inputs, self.fit.units if units is None else units)

    @property
    def has(self) -> frozenset[str]:
        """What there is for scores beside class names."""
        has = {NOUNS}
        if len(self.negative):
            has.add(NEGATIVES)
        if self.fit.photos is not None:
            has |= {MEANS, PHOTOS} if self.fit.photos.complete else {MEANS}
        if self.fit.units:
            has.add(UNITS)
        if self.backbone.bias is not None:
            has.add(BIAS)
        return frozenset(has)

    @cached_property
    def written(self) -> Tensor:
        """Text features of the hand-written positive prompts, shape (C, D), unit length."""
        if self.config.get("method") == "zero-shot":
            return self.positive
        return self.backbone.encode_texts([fill(POSITIVE_TEMPLATE, name) for name in self.class_names]).cpu()

    @cached_property
    def _nouns(self) -> Tensor:
        """Text features of nouns that say something against the classes, shape (M, D)."""
        return noun_features(self.backbone)[unlike(self.class_names)]

    def classify_features(self, features: Tensor) -> Tensor:
        """Index of the class whose positive prompt fits best, shape (N,). Negatives have no say in it (section 4.2)."""
        return self.cosines(features)[0].argmax(dim=-1)
