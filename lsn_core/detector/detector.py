"""A detector: text features of positive and negative prompts, a score and its calibration, in one safetensors file."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from lsn_core.atomic import write_safetensors
from lsn_core.backbones.backbone import Backbone
from lsn_core.backbones.loading import load_backbone
from lsn_core.calibration import DEFAULT_TPR, Calibration, check_tpr
from lsn_core.class_names import check_class_names
from lsn_core.data.features import picture_batches
from lsn_core.data.images import ImageSource, open_image
from lsn_core.detector.file import HEADER, SCHEMA, read_detector_file
from lsn_core.detector.prediction import Prediction
from lsn_core.detector.prompts import ConditionalPrompts, FixedPrompts
from lsn_core.errors import UserError
from lsn_core.prompts.written import NEGATIVE_TEMPLATE, POSITIVE_TEMPLATE, fill
from lsn_core.scores import get_score

log = logging.getLogger(__name__)


class Detector:
    """Positive and negative prompts of C classes as text features, and how their scores become verdicts.

    Attributes:
        class_names: the C in-distribution classes.
        positive: text features of the positive prompts, shape (C, D), unit length.
        negative: text features of K negative prompt sets, shape (K, C, D), unit length; K may be 0.
        calibration: scores of held-out images of the known classes, or None.
        score_name: which registered score gives the verdict.
        config: how the prompts were made, as stored in the file.
        prompts: what images are compared with; made for each image where the method is CoCoOp. `positive` and
            `negative` are then those at the mean training image, for display.

    Example:
        >>> from lsn_core import Detector, load_backbone
        >>> detector = Detector.zero_shot(load_backbone("embedded", "cpu"), ["dog", "cat", "elephant"])
        >>> photos = ["assets/examples/dog.jpg", "assets/examples/sports_car.jpg"]
        >>> [prediction.verdict for prediction in detector.predict(photos)]
        ['ID', 'OOD']
    """

    def __init__(
        self,
        backbone: Backbone,
        class_names: Sequence[str],
        positive: Tensor,
        negative: Tensor,
        *,
        score_name: str = "lsn",
        calibration: Calibration | None = None,
        config: dict[str, Any] | None = None,
        metrics: dict[str, Any] | None = None,
        contexts: dict[str, Tensor] | None = None,
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
        self.score_name = score_name
        self.calibration = calibration
        self.config = config or {}
        self.metrics = metrics or {}
        self.contexts = contexts or {}
        fixed = FixedPrompts(self.positive, self.negative)
        self.prompts: FixedPrompts | ConditionalPrompts = fixed
        if self.config.get("method") == "cocoop":
            self.prompts = ConditionalPrompts(backbone, self.class_names, fixed, self.contexts, self.config)
        get_score(score_name)

    @classmethod
    def zero_shot(
        cls,
        backbone: Backbone,
        class_names: Sequence[str],
        positive_template: str = POSITIVE_TEMPLATE,
        negative_template: str = NEGATIVE_TEMPLATE,
        score_name: str = "lsn",
    ) -> Detector:
        """A detector from class names alone, with hand-written prompts; uncalibrated until `calibrate` is called.

        Args:
            positive_template: holds {} once, for the class name; "a" or "an" before it becomes what the name asks for.
            negative_template: the hand-written negative prompt of the paper's section 3.1 (K = 1).

        Raises:
            UserError: fewer than two classes, a name twice, a name too long, or a template without {}.
        """
        names = check_class_names(class_names)
        positive = backbone.encode_texts([fill(positive_template, name) for name in names])
        negative = backbone.encode_texts([fill(negative_template, name) for name in names])[None]
        config = {
            "method": "zero-shot",
            "positive_template": positive_template,
            "negative_template": negative_template,
        }
        return cls(backbone, names, positive, negative, score_name=score_name, config=config)

    # -- scoring ------------------------------------------------------------------------------------------------------

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

    def score_features(self, features: Tensor, score: str | None = None) -> Tensor:
        """Scores of image features (N, D): shape (N,), fp32, higher = more in-distribution.

        Args:
            score: a name in `scores.SCORES`; None is the detector's own.
        """
        return get_score(score or self.score_name)(*self.cosines(features))

    def score(self, images: Iterable[ImageSource]) -> Tensor:
        """Scores of images (paths, bytes or pictures): shape (N,). Raises ImageError for one that cannot be read."""
        return self.score_features(self.backbone.encode_images([open_image(image) for image in images]))

    def classify_features(self, features: Tensor) -> Tensor:
        """Index of the class whose positive prompt fits best, shape (N,). Negatives have no say in it (section 4.2)."""
        return self.cosines(features)[0].argmax(dim=-1)

    def predict_features(self, features: Tensor, tpr: float = DEFAULT_TPR) -> list[Prediction]:
        """Verdicts on image features (N, D) at the threshold that keeps a share `tpr` of known images."""
        threshold = self.threshold(check_tpr(tpr))
        positive, negative = self.cosines(features)
        scores = get_score(self.score_name)(positive, negative).double()
        p_values = self.calibration.p_values(scores.numpy()) if self.calibration else None
        predictions = []
        for i, score in enumerate(scores.tolist()):
            predictions.append(
                Prediction(
                    verdict="ID" if score >= threshold else "OOD",
                    score=score,
                    threshold=threshold,
                    calibrated=self.calibration is not None,
                    p_value=float(p_values[i]) if p_values is not None else None,
                    predicted_class=self.class_names[int(positive[i].argmax())],
                    positive=dict(zip(self.class_names, positive[i].tolist(), strict=True)),
                    negative=dict(zip(self.class_names, negative[i].T.tolist(), strict=True)),
                )
            )
        return predictions

    def predict(
        self,
        images: Iterable[ImageSource],
        tpr: float = DEFAULT_TPR,
        batch_size: int = 32,
        on_image: Callable[[], None] | None = None,
    ) -> list[Prediction]:
        """Verdicts on images, in their order. One that cannot be read gets a Prediction with `error`; the others go on.

        Args:
            on_image: called once per image done, for a progress bar.
        """
        predictions: list[Prediction] = []

        def pictures() -> Iterator[tuple[int, Image.Image]]:
            for index, source in enumerate(images):
                predictions.append(Prediction.failed(None, self.calibration is not None))
                try:
                    picture = open_image(source)
                except UserError as error:
                    predictions[index] = Prediction.failed(str(error), self.calibration is not None)
                else:
                    yield index, picture
                    del picture  # the batch has it
                if on_image:
                    on_image()

        for batch in picture_batches(pictures(), batch_size):
            features = self.backbone.encode_images([picture for _, picture in batch], batch_size)
            for (index, _), prediction in zip(batch, self.predict_features(features, tpr), strict=True):
                predictions[index] = prediction
            batch.clear()  # before the next picture is decoded
        return predictions

    # -- calibration --------------------------------------------------------------------------------------------------

    def calibrate(self, features: Tensor) -> Detector:
        """The same detector, calibrated by the scores of these features (M, D) of known images not trained on."""
        calibration = Calibration(self.score_features(features).numpy())
        if len(calibration) < Calibration.images_needed():
            log.warning(
                "%d calibration images cannot promise to keep 95 %% of known images; %d are needed.",
                len(calibration),
                Calibration.images_needed(),
            )
        return self._copy(calibration=calibration)

    def with_score(self, score_name: str) -> Detector:
        """The same prompts with another score; its calibration is dropped, as it belongs to the old one."""
        return self._copy(score_name=score_name, calibration=None)

    def threshold(self, tpr: float = DEFAULT_TPR) -> float:
        """γ of Eq. 1: from the calibration images, or else `uncalibrated_threshold`."""
        return self.calibration.threshold(tpr) if self.calibration else self.uncalibrated_threshold()

    def uncalibrated_threshold(self) -> float:
        """A stand-in for γ where no image of the known classes was given: no error rate is promised.

        It is the score of an image to which the model, at its own temperature, would give its best class nine tenths of
        the probability and the other classes the rest in equal parts: a smaller lead is not taken for a match.
        """
        count = len(self.class_names)
        cosines = torch.zeros(1, count)
        cosines[0, 0] = self.backbone.temperature * math.log(9.0 * (count - 1))
        return float(get_score(self.score_name)(cosines, torch.zeros(1, max(1, len(self.negative)), count)))

    def _copy(self, **changes: Any) -> Detector:
        settings: dict[str, Any] = {
            "score_name": self.score_name,
            "calibration": self.calibration,
            "config": self.config,
            "metrics": self.metrics,
            "contexts": self.contexts,
        }
        return type(self)(self.backbone, self.class_names, self.positive, self.negative, **(settings | changes))

    # -- files --------------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes one .safetensors file; whole or not at all (temporary file, synced, renamed)."""
        path = Path(path)
        if path.suffix != ".safetensors":
            raise UserError(f"A detector file must end in .safetensors, and {path.name} does not.")
        if not path.parent.is_dir():
            raise UserError(f"The folder {path.parent} for the detector file does not exist. Create it first.")
        tensors = {"positive": self.positive, "negative": self.negative}
        tensors |= {f"contexts.{name}": value.detach().float().cpu() for name, value in self.contexts.items()}
        if self.calibration:
            tensors["calibration"] = torch.from_numpy(self.calibration.scores)
        metadata = {
            "schema": SCHEMA,
            "backbone": self.backbone.name,
            "weights_hash": self.backbone.weights_hash,
            "class_names": list(self.class_names),
            "score": self.score_name,
            "config": self.config,
            "metrics": self.metrics,
        }
        write_safetensors(path, tensors, {HEADER: json.dumps(metadata)})

    @classmethod
    def load(cls, path: str | os.PathLike[str], backbone: Backbone | None = None) -> Detector:
        """Reads a detector file.

        Args:
            backbone: the backbone to use; None loads the one the file names.

        Raises:
            UserError: not such a file, a damaged one, another schema, or text features of another backbone's weights.
        """
        path = Path(path)
        metadata, tensors = read_detector_file(path)
        if backbone is None:
            backbone = load_backbone(metadata["backbone"])
        if backbone.weights_hash != metadata["weights_hash"]:
            raise UserError(
                f"{path.name} was made with {metadata['backbone']} (weights {metadata['weights_hash'][:12]}), but the "
                f"backbone at hand is {backbone.name} (weights {backbone.weights_hash[:12]}). Its scores would mean "
                f"nothing there: load that backbone, or train the detector again."
            )
        calibration = Calibration(tensors["calibration"].numpy()) if "calibration" in tensors else None
        try:
            return cls(
                backbone,
                metadata["class_names"],
                tensors["positive"],
                tensors["negative"],
                score_name=metadata["score"],
                calibration=calibration,
                config=metadata["config"],
                metrics=metadata["metrics"],
                contexts={k.removeprefix("contexts."): v for k, v in tensors.items() if k.startswith("contexts.")},
            )
        except UserError as error:
            raise UserError(f"{path.name} is not a usable detector file: {error}") from error
