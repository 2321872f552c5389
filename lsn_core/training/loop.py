"""The training loop: positive prompts, then negative ones, exact to resume at any step."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from lsn_core.backbones.backbone import Backbone
from lsn_core.class_names import check_class_names
from lsn_core.detector.detector import Detector
from lsn_core.errors import UserError
from lsn_core.scores.registry import BIAS, MEANS, NEGATIVES, NOUNS, PHOTOS, UNITS, check_usable, get_score
from lsn_core.training.assembly import finish, learned_detector, one_class_detector
from lsn_core.training.checkpoint import read_checkpoint, write_checkpoint
from lsn_core.training.choice import make_folds
from lsn_core.training.config import TrainConfig
from lsn_core.training.phase import Phase
from lsn_core.training.shards import Shards
from lsn_core.training.shots import Shots, draw_shots

log = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 30.0


@dataclass(frozen=True)
class Progress:
    """Where a run stands, after a step.

    Attributes:
        phase: "positive" or "negative"; "choice" while the score is being chosen.
        step: steps done, over both phases.
        total: steps in all.
        loss: of this step's batch.
        accuracy: share of this batch whose class has the highest positive (lowest negative) cosine, in [0, 1].
        seconds: training time so far, that before a resume included.
    """

    phase: str
    step: int
    total: int
    loss: float
    accuracy: float
    seconds: float


Callback = Callable[[Progress], bool | None]


class TrainingStopped(Exception):
    """The callback asked to stop; the checkpoint, if there is a folder for one, holds the state to go on from."""


def train(
    features: Tensor | np.ndarray,
    labels: ArrayLike | Tensor,
    class_names: Sequence[str],
    backbone: Backbone,
    config: TrainConfig,
    *,
    callback: Callback | None = None,
    checkpoint_dir: str | Path | None = None,
    resume: bool = True,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    shards: Shards | None = None,
) -> Detector:
    """Learns positive and negative prompts and calibrates them on images held out from training.

    Args:
        features: image features of known classes, shape (N, D), from `backbone`.
        labels: class indices, shape (N,).
        class_names: the C classes.
        backbone: a promptable one; its image tower made the features.
        config: a preset, or your own; its `shots` and `seed` draw the images, its `calibration_share` holds some out.
        callback: called after each step; returning True, or raising, stops the run after its checkpoint is written.
        checkpoint_dir: an existing folder for the run's checkpoint; None for none. One folder serves one run.
        resume: go on from the folder's checkpoint. On a CPU the result is the same to the bit as without a break.
        checkpoint_seconds: least time between checkpoints; 0 for one each step.
        shards: the processes that the classes are divided over (`Shards.of_group()`), all of which call this with the
            same arguments; the callback of the first one is asked, and its checkpoint written. None for this one alone.

    Returns:
        A calibrated `Detector`. Uncalibrated where each class has one image. With `config.choose_score` its score is
        the one that told hidden classes best, and `Detector.fit.choice` says how the others did. One class has no
        other to be told from: nothing is learned, and its written prompt is calibrated.

    Raises:
        UserError: classes, labels, features or config do not fit, or a checkpoint of another run is in the way.
        TrainingStopped: the callback returned True.

    Examples:
        >>> import torch
        >>> from lsn_core import get_preset, load_backbone, train
        >>> backbone = load_backbone("embedded", "cpu")
        >>> features = backbone.encode_texts(["a dog", "a cat"]).repeat(8, 1)  # in place of image features
        >>> detector = train(features, torch.arange(16) % 2, ["dog", "cat"], backbone, get_preset("fast", shots=4))
        >>> detector.negative.shape == (3, 2, backbone.dim), detector.metrics["train_images"]
        (True, 6)
    """
    names = check_class_names(class_names)
    shots = draw_shots(features, labels, names, backbone.dim, config.shots, config.calibration_share, config.seed)
    if config.precision == "bf16" and not has_bf16(backbone.device):
        raise UserError(
            "Precision 'bf16' needs a CUDA GPU, or a CPU with AVX-512 BF16 or AMX, which this one has not. Use 'fp32'."
        )
    if len(names) == 1:
        return one_class_detector(backbone, names, config, shots)
    given = config.score_name
    needs_folds = get_score(given).sum_of if given else config.choose_score
    folds = make_folds(shots, len(names), config.seed) if needs_folds else []
    check_usable(config.score, len(names), _offered(config, backbone, bool(folds)))  # before anything is learned
    shards = shards or Shards()
    phases = _phases(config, names, backbone, shots, shards)
    of_folds = [
        _phases(config, [names[i] for i in fold.known], backbone, fold.shots, shards, number)
        for number, fold in enumerate(folds)
    ]
    run = _Run(
        [*phases, *(phase for group in of_folds for phase in group)],
        _run_ids(names, backbone, config, shots),
        callback,
        checkpoint_dir,
        checkpoint_seconds,
        shards,
    )
    if resume:
        run.restore()
    run.go()
    in_folds = [
        (fold, learned_detector(backbone, [names[i] for i in fold.known], config, fold.shots, group))
        for fold, group in zip(folds, of_folds, strict=True)
    ]
    detector = learned_detector(backbone, names, config, shots, phases)
    return finish(detector, config, shots, in_folds, run.seconds)


def _offered(config: TrainConfig, backbone: Backbone, folds: bool) -> frozenset[str]:
    learned = {NEGATIVES} if config.negative.sets else set()
    own = set() if backbone.bias is None else {BIAS}
    return frozenset({NOUNS, MEANS, PHOTOS} | learned | own | ({UNITS} if folds else set()))


def _phases(
    config: TrainConfig, names: Sequence[str], backbone: Backbone, shots: Shots, shards: Shards, fold: int | None = None
) -> list[Phase]:
    return [
        Phase(kind, settings, config, names, backbone, shots, fold, shards)
        for kind, settings in (("positive", config.positive), ("negative", config.negative))
        if settings.sets
    ]


class _Run:
    """Phases one after the other, with progress and checkpoints."""

    def __init__(
        self,
        phases: Sequence[Phase],
        run_ids: Sequence[str],
        callback: Callback | None,
        checkpoint_dir: str | Path | None,
        checkpoint_seconds: float,
        shards: Shards,
    ) -> None:
        self.phases, self.run_ids, self.shards = phases, run_ids, shards
        self.callback = callback if shards.rank == 0 else None
        self.folder = None if checkpoint_dir is None else Path(checkpoint_dir)
        if self.folder is not None and not self.folder.is_dir():
            raise UserError(f"The checkpoint folder {self.folder} does not exist. Create it first.")
        self.checkpoint_seconds = checkpoint_seconds
        self.step, self.seconds = 0, 0.0
        self.total = sum(phase.total for phase in phases)

    def restore(self) -> None:
        checkpoint = read_checkpoint(self.folder) if self.folder is not None else None
        if checkpoint is None:
            return
        tensors, state = checkpoint
        if state.get("run_id") not in self.run_ids:
            raise UserError(
                "The checkpoint folder holds a run on other images, classes, settings or weights. Give this run a "
                "folder of its own, or train without resuming to replace it."
            )
        try:
            self.step, self.seconds = int(state["step"]), float(state["seconds"])
            for phase in self.phases:
                phase.load(tensors)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise UserError("The training checkpoint is damaged. Delete it, or train without resuming.") from error
        log.info("Going on from step %d of %d.", self.step, self.total)

    def go(self) -> None:
        begun = time.monotonic() - self.seconds
        saved = time.monotonic()
        first = 0
        for phase in self.phases:
            while self.step < first + phase.total:
                loss, accuracy = phase.step(self.step - first)
                self.step += 1
                self.seconds = time.monotonic() - begun
                if self.callback or self.step % 10 == 0 or self.step == first + phase.total:
                    self._check(float(loss))
                stop = self._report(phase.kind if phase.fold is None else "choice", loss, accuracy)
                due = self.step == self.total or time.monotonic() - saved >= self.checkpoint_seconds
                stop, due = self.shards.first_says(stop, due)
                if stop or due:
                    self._save()
                    saved = time.monotonic()
                if stop:
                    raise TrainingStopped(f"Stopped after step {self.step} of {self.total}.")
            first += phase.total

    def _report(self, kind: str, loss: Tensor, accuracy: Tensor) -> bool:
        if self.callback is None:
            return False
        try:
            now = Progress(kind, self.step, self.total, float(loss), float(accuracy), self.seconds)
            return bool(self.callback(now))
        except BaseException:
            if self.shards.alone:  # the others are not there to give their parts
                self._save()
            raise

    def _check(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise UserError(f"Training diverged at step {self.step}: the loss is {loss}. Lower the learning rate (lr).")

    def _save(self) -> None:
        if self.folder is None:
            return
        tensors: dict[str, Tensor] = {}
        for phase in self.phases:
            tensors |= phase.tensors()
        if self.shards.rank == 0:
            state = {"run_id": self.run_ids[0], "step": self.step, "seconds": self.seconds}
            write_checkpoint(self.folder, tensors, state)


def _run_ids(names: Sequence[str], backbone: Backbone, config: TrainConfig, shots: Shots) -> list[str]:
    """SHA-256 (hex) of everything that decides the result of a run, then what an earlier version called the same."""
    earlier: list[Any] = [list(names), backbone.weights_hash, config.to_dict(), shots.digest()]
    known_by = [[*earlier, backbone.text_function], *([earlier] if backbone.texts_as_ever else [])]
    return [hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest() for parts in known_by]


def has_bf16(device: torch.device) -> bool:
    """Whether a device multiplies in bfloat16 faster than in fp32: a GPU, or a CPU with AVX-512 BF16 or AMX."""
    return device.type == "cuda" or (device.type == "cpu" and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()))
