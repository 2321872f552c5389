"""Known classes, a few labelled images and what is fitted to them, shared by all methods that are compared."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from filelock import FileLock

from benchmarks.harness.classifier import Classifier
from benchmarks.harness.images import Images
from benchmarks.harness.protocols import Split
from lsn_core import Detector, training
from lsn_core.backbones.backbone import Backbone
from lsn_core.data.labelled import LabelledImages
from lsn_core.data.sampling import few_shot, split
from lsn_core.detector.fit import Fit
from lsn_core.scores.photos import KnownPhotos
from lsn_core.training.config import TrainConfig
from lsn_core.training.from_images import EncodedShots, train_from_images
from lsn_core.training.loop import Callback

log = logging.getLogger(__name__)


@cache
def _training_code() -> str:
    """A hash of the code that trains, so that no detector of other code is taken from a folder."""
    files = sorted(Path(training.__file__ or "").parent.glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


@dataclass
class Setting:
    """A split, the images drawn from its training set, and the detectors trained on them.

    Attributes:
        config: how prompts are trained; its shots, seed and calibration share also decide what other methods learn
            from, so that all see the same images.
        cocoop_images: most test images of either side that CoCoOp is measured on, as each costs runs of the text tower;
            None for all.
        clock: gathers the seconds that trainings took, when they were run.
        folder: where trained detectors are kept; a later table takes them from there, if the code that trains is the
            same. Image features are beside them, and the checkpoints of a training that was interrupted.
        progress: of the encoding of images, as for `extract_features`.
        callback: of the training, as for `train`.
    """

    backbone: Backbone
    split: Split
    config: TrainConfig
    folder: Path
    cocoop_images: int | None = None
    clock: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    progress: bool | Callable[[int, int], None] = False
    callback: Callback | None = None
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
        return Images(self.backbone, data, self.folder / "features", self.progress)

    @cached_property
    def zero_shot(self) -> Detector:
        return Detector.zero_shot(self.backbone, self.class_names)

    @cached_property
    def with_photos(self) -> Detector:
        """The zero-shot detector beside the photos to learn from, for scores that need them."""
        photos = KnownPhotos(self.learned.embedding, self.learned.labels, len(self.class_names))
        return self.zero_shot.with_fit(Fit(photos=photos), self.zero_shot.score_name)

    @cached_property
    def written_positives(self) -> Detector:
        """Hand-written positive and learned negative prompts (Table 4)."""
        learned = self.detector()
        return Detector(self.backbone, self.class_names, self.zero_shot.positive, learned.negative, fit=learned.fit)

    @cached_property
    def classifier(self) -> Classifier:
        return Classifier(self.learned.embedding, self.learned.labels)

    def detector(self, config: TrainConfig | None = None) -> Detector:
        """The detector that `train` makes of the drawn images; taken from the folder when it was made before.

        Args:
            config: instead of the setting's own; of the same shots and seed.
        """
        config = config or self.config
        drawn = list(self.drawn.data.names)
        parts = [self.class_names, self.backbone.fingerprint, config.to_dict(), drawn, _training_code()]
        key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]
        if key not in self._detectors:
            path = self.folder / "detectors" / f"{key}.safetensors"
            part = "training, kept from earlier runs" if path.is_file() else "training"
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_suffix(".lock")):  # others of a cluster may want it, too
                if not path.is_file():
                    log.info("training %s prompts on %s", config.method, self.split.name)
                    self._train(config, path)
            self._detectors[key] = Detector.load(path, self.backbone)
            self.clock[part] += self._detectors[key].metrics["train_seconds"]
        return self._detectors[key]

    def forget_detectors(self) -> None:
        """Lets go of the detectors in memory; they stay in the folder."""
        self._detectors.clear()

    def _train(self, config: TrainConfig, path: Path) -> None:
        """Trains and saves; a training that was interrupted goes on where it was."""
        checkpoints = path.with_suffix(".run")
        checkpoints.mkdir(exist_ok=True)
        shots = EncodedShots(self.drawn.embedding, self.drawn.data.labels, self.class_names, [])
        train_from_images(shots, self.backbone, config, callback=self.callback, checkpoint_dir=checkpoints).save(path)
        shutil.rmtree(checkpoints)
