"""A detector: text features of positive and negative prompts, a score and its calibration, in one safetensors file."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lsn_core.backbones.backbone import Backbone
from lsn_core.backbones.loading import load_backbone
from lsn_core.calibration import DEFAULT_TPR, Calibration, check_tpr
from lsn_core.class_names import check_class_names
from lsn_core.data.collection import ImageCollection
from lsn_core.data.feature_cache import FeatureCache
from lsn_core.data.feature_stream import FeatureStream, unopened
from lsn_core.data.images import ImageSource
from lsn_core.detector import hub
from lsn_core.detector.backbone_check import SETTINGS, check_backbone
from lsn_core.detector.evidence import at_threshold, evidence
from lsn_core.detector.file import read_detector_file, write_detector_file
from lsn_core.detector.fit import Fit
from lsn_core.detector.prediction import Prediction
from lsn_core.detector.scorer import PromptScorer
from lsn_core.detector.uncalibrated import just_convincing, normal_threshold, typical_profile
from lsn_core.errors import UserError
from lsn_core.prompts.nouns import unlike
from lsn_core.prompts.written import NEGATIVE_TEMPLATE, POSITIVE_TEMPLATE, fill
from lsn_core.scores.registry import spreads, total

log = logging.getLogger(__name__)

DEFAULT_ZERO_SHOT = "neglabel"
_BATCH = 32


class Detector(PromptScorer):
    """Positive and negative prompts of C classes as text features, and how their scores become verdicts.

    Attributes:
        class_names: the C in-distribution classes.
        positive: text features of the positive prompts, shape (C, D), unit length.
        negative: text features of K negative prompt sets, shape (K, C, D), unit length; K may be 0.
        calibration: scores of held-out images of the known classes, or None.
        score_name: which registered score gives the verdict.
        fit: what was fitted to photos beside the prompts: units of sums, photos that scores need, the choice of score.
        config: how the prompts were made, as stored in the file.
        prompts: what images are compared with; made for each image where the method is CoCoOp. `positive` and
            `negative` are then those at the mean training image, for display.

    Examples:
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
        fit: Fit | None = None,
    ) -> None:
        super().__init__(
            backbone, class_names, positive, negative, score_name, config or {}, contexts or {}, fit or Fit()
        )
        self.calibration = calibration
        self.metrics = metrics or {}

    @classmethod
    def zero_shot(
        cls,
        backbone: Backbone,
        class_names: Sequence[str],
        positive_template: str = POSITIVE_TEMPLATE,
        negative_template: str = NEGATIVE_TEMPLATE,
        score_name: str = DEFAULT_ZERO_SHOT,
    ) -> Detector:
        """A detector from class names alone, with hand-written prompts; uncalibrated until `calibrate` is called.

        Args:
            positive_template: holds {} once, for the class name; "a" or "an" before it becomes what the name asks for.
            negative_template: the hand-written negative prompt of the paper's section 3.1 (K = 1).
            score_name: NegLabel by default, which served best of the scores from names alone, on hidden classes of
                training photos.

        Raises:
            UserError: no class, a name twice, a name too long, a template without {}, or a score that cannot serve.
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

    def score(self, images: Iterable[ImageSource]) -> Tensor:
        """Scores of images (paths, bytes or pictures): shape (N,). Raises ImageError for one that cannot be read."""
        rows = []
        for _, row in FeatureStream(self.backbone, batch_size=_BATCH).run(unopened(images)):
            if isinstance(row, UserError):
                raise row
            rows.append(row)
        return self.score_features(torch.from_numpy(np.array(rows).reshape(len(rows), self.positive.shape[-1])))

    def predict_features(self, features: Tensor, tpr: float = DEFAULT_TPR, *, cosines: bool = True) -> list[Prediction]:
        """Verdicts on image features (N, D) at the threshold that keeps a share `tpr` of known images.

        Args:
            cosines: whether predictions hold the cosines to all prompts, which with many classes take most of the time.
        """
        if not len(features):
            return []
        threshold = self.threshold(check_tpr(tpr))
        inputs = self.inputs(features)
        parts = self.parts(inputs)
        scores = total(parts).double()
        p_values = self.calibration.p_values(scores.numpy()) if self.calibration else None
        reasons = evidence(parts, self._at_threshold(threshold))
        predictions = []
        for i, score in enumerate(scores.tolist()):
            positive, negative = inputs.positive[i], inputs.negative[i]
            predictions.append(
                Prediction(
                    verdict="ID" if score >= threshold else "OOD",
                    score=score,
                    threshold=threshold,
                    calibrated=self.calibration is not None,
                    p_value=float(p_values[i]) if p_values is not None else None,
                    predicted_class=self.class_names[int(positive.argmax())],
                    positive=dict(zip(self.class_names, positive.tolist(), strict=True)) if cosines else {},
                    negative=dict(zip(self.class_names, negative.T.tolist(), strict=True)) if cosines else {},
                    score_name=self.score_name,
                    evidence=reasons[i],
                )
            )
        return predictions

    def predict(
        self,
        images: Iterable[ImageSource] | ImageCollection,
        tpr: float = DEFAULT_TPR,
        batch_size: int = _BATCH,
        on_image: Callable[[], None] | None = None,
    ) -> list[Prediction]:
        """Verdicts on images, in their order. One that cannot be read gets a Prediction with `error`; the others go on.

        Args:
            images: paths, bytes or pictures; or a collection, such as `load_data` gives.
            on_image: called once per image done, for a progress bar.
        """
        predictions = []
        for prediction in self.stream(images, tpr, batch_size):
            predictions.append(prediction)
            if on_image:
                on_image()
        return predictions

    def stream(
        self,
        images: Iterable[ImageSource] | ImageCollection,
        tpr: float = DEFAULT_TPR,
        batch_size: int = _BATCH,
        cache: FeatureCache | None = None,
    ) -> Iterator[Prediction]:
        """`predict`, one by one, for any number of images: a bounded number of them is in memory at a time.

        Args:
            images: as in `predict`; taken as they are needed.
            cache: of features of the detector's backbone, which are taken from there and put there.
        """
        count = len(images) if isinstance(images, Sized) else None
        rows = FeatureStream(self.backbone, cache, batch_size).run(unopened(images), count)
        yield from self.stream_rows((row for _, row in rows), tpr, batch_size)

    def stream_rows(
        self,
        rows: Iterable[np.ndarray | UserError],
        tpr: float = DEFAULT_TPR,
        batch_size: int = _BATCH,
        *,
        cosines: bool = True,
    ) -> Iterator[Prediction]:
        """Verdicts on images whose features come from elsewhere, such as a cluster, one by one.

        Args:
            rows: the feature (D,) of each image, float32, unit length, or the error about it; taken as they are needed.
            cosines: as for `predict_features`.
        """
        check_tpr(tpr)
        coming = iter(rows)
        calibrated = self.calibration is not None
        while batch := list(islice(coming, batch_size)):
            good = [row for row in batch if not isinstance(row, UserError)]
            verdicts = iter(self._verdicts(good, tpr, cosines))
            for row in batch:
                yield Prediction.failed(str(row), calibrated) if isinstance(row, UserError) else next(verdicts)

    def _verdicts(self, rows: list[np.ndarray], tpr: float, cosines: bool) -> list[Prediction]:
        return self.predict_features(torch.from_numpy(np.stack(rows)), tpr, cosines=cosines) if rows else []

    def reconsider(self, prediction: Prediction, tpr: float) -> Prediction:
        """One of its own predictions at the threshold for another `tpr`, without a look at the image."""
        if prediction.score is None or prediction.threshold is None:
            return prediction
        threshold = self.threshold(check_tpr(tpr))
        before, after = self._at_threshold(prediction.threshold), self._at_threshold(threshold)
        reasons = {}
        if before and after:
            reasons = {name: value + before[name] - after[name] for name, value in prediction.evidence.items()}
        verdict = "ID" if prediction.score >= threshold else "OOD"
        return replace(prediction, verdict=verdict, threshold=threshold, evidence=reasons)

    # -- calibration --------------------------------------------------------------------------------------------------

    def calibrate(self, features: Tensor) -> Detector:
        """The same detector, calibrated by the scores of these features (M, D) of known images not trained on."""
        if not len(features):
            raise UserError("Calibration needs at least one photo of the known classes, and there are none.")
        parts = self.parts(self.inputs(features))
        calibration = Calibration(total(parts).numpy())
        if len(calibration) < Calibration.images_needed():
            log.warning(
                "%d calibration images cannot promise to keep 95 %% of known images; %d are needed.",
                len(calibration),
                Calibration.images_needed(),
            )
        return self._copy(calibration=calibration, fit=replace(self.fit, profile=spreads(parts)))

    def with_score(self, score_name: str) -> Detector:
        """The same prompts with another score; its calibration is dropped, as it belongs to the old one.

        Raises:
            UserError: the score cannot serve this detector; the message lists those that can.
        """
        return self.with_fit(replace(self.fit, profile=typical_profile(score_name, self.fit.units)), score_name)

    def with_fit(self, fit: Fit, score_name: str) -> Detector:
        """The same prompts fitted to other photos, with a score; its calibration is dropped."""
        return self._copy(score_name=score_name, calibration=None, fit=fit)

    def threshold(self, tpr: float = DEFAULT_TPR) -> float:
        """γ of Eq. 1: from the calibration images, or else `uncalibrated_threshold`."""
        return self.calibration.threshold(tpr) if self.calibration else self.uncalibrated_threshold(tpr)

    def uncalibrated_threshold(self, tpr: float = DEFAULT_TPR) -> float:
        """A stand-in for γ where no held-out image of the known classes was given: no error rate is promised.

        Where the detector was fitted to photos, the score that a share `tpr` of a normal distribution of their mean and
        spread would reach; else the score of a just convincing image (`uncalibrated.just_convincing`).
        """
        if self.fit.profile is not None:
            return normal_threshold(self.fit.profile, tpr)
        return sum(self._just_convincing.values())

    @cached_property
    def _just_convincing(self) -> dict[str, float]:
        unit = self.backbone.temperature
        sizes = len(self.class_names), len(self.negative), len(unlike(self.class_names))
        parts = just_convincing(self.score_name, *sizes, unit, self.fit.test_unit or unit, self.backbone.bias)
        if parts is None:
            raise UserError(f"The score {self.score_name!r} has no threshold yet: calibrate the detector with photos.")
        return parts

    def _at_threshold(self, threshold: float) -> Mapping[str, float]:
        profile = self.fit.profile
        if profile is None:  # a calibrated detector of version 0.1 has none, either
            profile = {name: (value, 0.0) for name, value in self._just_convincing.items()}
        return at_threshold(profile, threshold)

    def _copy(self, **changes: Any) -> Detector:
        settings: dict[str, Any] = {
            "score_name": self.score_name,
            "calibration": self.calibration,
            "config": self.config,
            "metrics": self.metrics,
            "contexts": self.contexts,
            "fit": self.fit,
        }
        return type(self)(self.backbone, self.class_names, self.positive, self.negative, **(settings | changes))

    # -- files --------------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes one .safetensors file; whole or not at all (temporary file, synced, renamed)."""
        write_detector_file(
            Path(path),
            {
                "backbone": self.backbone.name,
                "weights_hash": self.backbone.weights_hash,
                SETTINGS: self.backbone.settings,
                "class_names": list(self.class_names),
                "score": self.score_name,
                "config": self.config,
                "metrics": self.metrics,
                "fit": self.fit.to_dict(),
            },
            {
                "positive": self.positive,
                "negative": self.negative,
                **{f"contexts.{name}": value.detach().float() for name, value in self.contexts.items()},
                **({"calibration": torch.from_numpy(self.calibration.scores)} if self.calibration else {}),
                **self.fit.tensors(),
            },
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str], backbone: Backbone | None = None) -> Detector:
        """Reads a detector file.

        Args:
            backbone: the backbone to use; None loads the one the file names.

        Raises:
            UserError: not such a file, a damaged one, another schema, or made with other weights, or with these weights
                run as another function.
        """
        path = Path(path)
        metadata, tensors = read_detector_file(path)
        if backbone is None:
            backbone = load_backbone(metadata["backbone"])
        check_backbone(path.name, metadata, tensors, backbone)
        try:
            calibration = Calibration(tensors["calibration"].numpy()) if "calibration" in tensors else None
            if tensors["positive"].shape[-1] != backbone.dim:
                raise UserError(f"its text features have {tensors['positive'].shape[-1]} numbers, not {backbone.dim}.")
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
                fit=Fit.of(metadata["fit"], tensors, len(metadata["class_names"])),
            )
        except UserError as error:
            raise UserError(f"{path.name} is not a usable detector file: {error}") from error

    @classmethod
    def from_pretrained(
        cls, name: str, backbone: Backbone | None = None, revision: str | None = None, token: str | None = None
    ) -> Detector:
        """Reads a detector from the Hugging Face Hub.

        Args:
            name: ORG/NAME of its repository.
            backbone: as for `load`.
            revision: branch, tag or commit; None is the main branch.
            token: for private repositories; None is the one that `hf auth login` kept.

        Raises:
            UserError: there is no such repository or no detector in it, the Hub cannot be reached, or as for `load`.
        """
        return cls.load(hub.fetch(name, revision, token), backbone)

    def push_to_hub(
        self,
        name: str,
        *,
        private: bool = False,
        license: str | None = None,
        token: str | None = None,
        message: str = "Upload a detector",
    ) -> str:
        """Publishes the detector on the Hugging Face Hub, with a card made from what its file says.

        Args:
            name: ORG/NAME of the repository, which is made where there is none.
            private: whether a new repository is seen by its owners only.
            license: of the detector, such as "apache-2.0"; None leaves it open.
            token: one that may write; None is the one that `hf auth login` kept.
            message: of the commit.

        Returns:
            The repository's address.

        Raises:
            UserError: the Hub cannot be reached, or does not let you write there.
        """
        return hub.push(self, name, private=private, license=license, token=token, message=message)
