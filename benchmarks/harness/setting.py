"""Known classes, a few labelled images and what is fitted to them, shared by all methods that are compared."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from torch import Tensor

from benchmarks.harness.classifier import Classifier
from benchmarks.harness.images import Images, Scorer
from benchmarks.harness.protocols import Split
from lsn_core import Detector
from lsn_core.backbones.backbone import Backbone
from lsn_core.data.labelled import LabelledImages
from lsn_core.data.sampling import few_shot, split
from lsn_core.training.config import TrainConfig
from lsn_core.training.from_images import train_from_images

log = logging.getLogger(__name__)

COCOOP_IMAGES = 240


class Standard:
    """A score in units of its spread over known images that nothing was fitted to, their mean being 0."""

    def __init__(self, scorer: Scorer, held_out: Images) -> None:
        self.scorer = scorer
        known = scorer(held_out).detach().double()
        self.mean, self.spread = known.mean(), known.std().clamp_min(1e-12)

    def __call__(self, images: Images) -> Tensor:
        return (self.scorer(images).detach().double() - self.mean) / self.spread


@dataclass
class Setting:
    """A split, the images drawn from its training set, and the detectors trained on them.

    Attributes:
        config: how prompts are trained; its shots, seed and calibration share also decide what other methods learn
            from, so that all see the same images.
        cocoop_images: most labelled images that CoCoOp learns from, and most test images of either side that it is
            measured on: it costs runs of the text tower for each image.
        clock: gathers the seconds that trainings took, when they were run.
        folder: where trained detectors are kept; a later table takes them from there. Image features are beside them.
    """

    backbone: Backbone
    split: Split
    config: TrainConfig
    folder: Path
    cocoop_images: int = COCOOP_IMAGES
    clock: Counter[str] = field(default_factory=Counter)
    _detectors: dict[str, Detector] = field(default_factory=dict)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.split.train.class_names

    @cached_property
    def drawn(self) -> Images:
        """The few labelled images, those held out for calibration included."""
        data = self.split.train
        return self.images(data.subset(few_shot(data, self.config.shots, self.config.seed)))

    @cached_property
    def parts(self) -> tuple[np.ndarray, np.ndarray]:
        """Indices into `drawn`: to learn from, and held out. The same as `train` draws."""
        return split(self.drawn.data.labels, self.config.calibration_share, self.config.seed)

    @cached_property
    def learned(self) -> Images:
        """The images to learn from."""
        return self.images(self.drawn.data.subset(self.parts[0]))

    @cached_property
    def held_out(self) -> Images:
        """Images of the known classes that nothing was fitted to."""
        return self.images(self.drawn.data.subset(self.parts[1]))

    def images(self, data: LabelledImages) -> Images:
        return Images(self.backbone, data, self.folder / "features")

    @cached_property
    def zero_shot(self) -> Detector:
        return Detector.zero_shot(self.backbone, self.class_names)

    @cached_property
    def classifier(self) -> Classifier:
        return Classifier(self.learned.embedding, self.learned.labels)

    def detector(self, config: TrainConfig | None = None) -> Detector:
        """The detector that `train` makes of the drawn images; taken from the folder when it was made before.

        Args:
            config: instead of the setting's own; of the same shots and seed.
        """
        config = config or self.config
        parts = [self.class_names, self.backbone.weights_hash, config.to_dict(), list(self.drawn.data.names)]
        key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]
        if key not in self._detectors:
            path = self.folder / "detectors" / f"{key}.safetensors"
            part = "training, kept from earlier runs" if path.is_file() else "training"
            if not path.is_file():
                log.info("training %s prompts on %s", config.method, self.split.name)
                path.parent.mkdir(parents=True, exist_ok=True)
                cache = self.folder / "features"
                train_from_images(self.split.train, self.backbone, config, cache=cache, progress=False).save(path)
            self._detectors[key] = Detector.load(path, self.backbone)
            self.clock[part] += self._detectors[key].metrics["train_seconds"]
        return self._detectors[key]
