"""A detector as one module of tensors: pixels in; score, class and verdict out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from open_clip.transform import PreprocessCfg
from torch import Tensor, nn

from lsn_core.detector.detector import Detector
from lsn_core.detector.prompts import ConditionalPrompts
from lsn_core.errors import UserError
from lsn_core.scores.registry import total


class DetectorGraph(nn.Module):
    """The detector from pixels to verdict, without anything that is not tensors; what `export` writes.

    Args:
        detector: with prompts that are the same for every image.
        tpr: share of known images that its threshold keeps.

    Raises:
        UserError: its prompts are made for each image (CoCoOp).
    """

    def __init__(self, detector: Detector, tpr: float) -> None:
        super().__init__()
        if isinstance(detector.prompts, ConditionalPrompts):
            raise UserError(
                "A detector of method 'cocoop' runs the text tower for each image, which a graph for other places is "
                "too slow for. Train one of method 'coop', and export that."
            )
        settings = PreprocessCfg(**detector.backbone.model.visual.preprocess_cfg)
        self.visual = detector.backbone.model.visual
        self.mean, self.std = (torch.tensor(values).view(1, 3, 1, 1) for values in (settings.mean, settings.std))
        self._detector = detector
        self.threshold = detector.threshold(tpr)
        # What is the same for all images is computed here, once, and becomes part of the graph.
        width = detector.positive.shape[-1]
        known = detector.inputs(torch.zeros(1, width))
        detector.parts(known)
        self._constant = {"residual": known.residual} if "residual" in vars(known) else {}

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Verdicts on pictures that were resized and cropped.

        Args:
            pixels: shape (N, H, W, 3), uint8, upright sRGB.

        Returns:
            score (N,), fp32, higher = more in-distribution; index of the class that fits best (N,), int64; whether the
            score reaches the threshold (N,), bool.
        """
        x = pixels.permute(0, 3, 1, 2).float() / 255.0
        pooled = self.visual((x - self.mean) / self.std)
        inputs = self._detector.inputs(F.normalize(pooled.float(), dim=-1))
        vars(inputs).update(self._constant)
        score = total(self._detector.parts(inputs))
        return score, inputs.positive.argmax(dim=-1), score.double() >= self.threshold
