"""What a job consists of: features, training, evaluation, result."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open

from lsn_core.atomic import write_safetensors
from lsn_core.backbones.backbone import Backbone
from lsn_core.backbones.loading import load_backbone
from lsn_core.data.feature_cache import earlier_fingerprint
from lsn_core.data.features import extract_features
from lsn_core.detector.detector import Detector
from lsn_core.errors import UserError
from lsn_core.evaluation import Method, evaluate
from lsn_core.jobs.job import ACTIVE, EVALUATING, TRAINING, Job, Point
from lsn_core.jobs.limits import JobLimits
from lsn_core.jobs.storage.files import FEATURES, RESULT, JobFiles
from lsn_core.jobs.worker.attempt import Attempt, Stopped
from lsn_core.metrics import accuracy
from lsn_core.scores.registry import BASELINE, usable_scores
from lsn_core.training.checkpoint import CHECKPOINT_FILE, read_checkpoint
from lsn_core.training.config import TrainConfig
from lsn_core.training.from_images import EncodedShots, encode_shots, train_from_images
from lsn_core.training.loop import Progress, TrainingStopped
from lsn_core.training.shots import draw_shots

log = logging.getLogger(__name__)

BATCH = 16
"""Photos encoded at a time; a stop is noticed between batches."""

_LISTED = 20  # unusable photos that are named
_DRAWS = 500  # of the photos, behind each interval


class Reports(Protocol):
    """Where an attempt writes down how far it is: the registry, or who passes it on to one."""

    def prepared(self, job_id: str, claim: str, done: int, images: int) -> None:
        """As `Registry.prepared`."""

    def trained(self, job_id: str, claim: str, point: Point, total: int, *, first: bool) -> None:
        """As `Registry.trained`."""

    def advance(self, job_id: str, claim: str, to: str) -> None:
        """As `Registry.advance`."""

    def finish(self, job_id: str, claim: str, result: str, metrics: dict[str, Any]) -> None:
        """As `Registry.finish`."""


class Pipeline:
    """One attempt of one job."""

    def __init__(
        self, attempt: Attempt, registry: Reports, files: JobFiles, limits: JobLimits, stop: Callable[[], bool]
    ) -> None:
        """Takes what it works with; `stop` is asked between steps whether to end the attempt."""
        self.attempt, self.registry, self.files, self.limits, self.stop = attempt, registry, files, limits, stop

    def run(self, job: Job) -> None:
        """Takes the job from where it stands to its end.

        Raises:
            UserError: the data set or the settings do not fit.
            Stopped: `stop` said so; what is done so far is kept.
            LostClaim: the job was taken away.
        """
        torch.set_num_threads(job.threads or 1)
        config = TrainConfig.from_dict(job.config)
        backbone = load_backbone(job.backbone, self.attempt.device)
        shots = self._prepare(job, config, backbone)
        self._advance(job, TRAINING)
        detector = self._train(job, config, backbone, shots)
        self._advance(job, EVALUATING)
        metrics = self._evaluate(job, config, detector, shots)
        detector.metrics |= {"data": job.name, **metrics}
        detector.save(self.files.folder(job.id) / RESULT)
        self._check_stop()
        self.registry.finish(job.id, self.attempt.claim, RESULT, detector.metrics)

    def _advance(self, job: Job, to: str) -> None:
        self._check_stop()
        if ACTIVE.index(job.state) < ACTIVE.index(to):  # else an earlier attempt of this claim got as far
            self.registry.advance(job.id, self.attempt.claim, to)

    def _check_stop(self) -> None:
        if self.stop():
            raise Stopped

    def _prepare(self, job: Job, config: TrainConfig, backbone: Backbone) -> EncodedShots:
        path = self.files.folder(job.id) / FEATURES
        kept = _read_features(path, backbone.fingerprint)
        if kept is not None:
            return kept
        # A checkpoint belongs to the very features it was trained on.
        (path.parent / CHECKPOINT_FILE).unlink(missing_ok=True)
        images = self.files.open(job.dataset, job.name, self.limits)
        reported = 0.0

        def report(done: int, total: int) -> None:
            nonlocal reported
            self._check_stop()
            if done == total or time.monotonic() - reported > 0.25:
                self.registry.prepared(job.id, self.attempt.claim, done, total)
                reported = time.monotonic()

        shots = encode_shots(images, backbone, config, cache=self.files.cache, batch_size=BATCH, progress=report)
        header = {
            "fingerprint": backbone.fingerprint,
            "classes": list(shots.class_names),
            "left_out": shots.left_out,
        }
        tensors = {"features": shots.features, "labels": torch.from_numpy(shots.labels)}
        write_safetensors(path, tensors, {"lsn-features": json.dumps(header)})
        return shots

    def _train(self, job: Job, config: TrainConfig, backbone: Backbone, shots: EncodedShots) -> Detector:
        folder, begun, reported = self.files.folder(job.id), time.monotonic(), -1.0
        try:
            read_checkpoint(folder)
        except UserError as error:
            log.warning("%s Training begins anew.", error)
            (folder / CHECKPOINT_FILE).unlink(missing_ok=True)

        def report(progress: Progress) -> bool:
            nonlocal reported
            now = time.monotonic()
            # Some two thousand points at most, however long it takes.
            if reported < 0 or progress.step == progress.total or now - reported >= max(0.25, (now - begun) / 500):
                point = Point(progress.step, progress.phase, progress.loss, progress.accuracy, progress.seconds)
                self.registry.trained(job.id, self.attempt.claim, point, progress.total, first=reported < 0)
                reported = now
            return self.stop()

        try:
            return train_from_images(
                shots,
                backbone,
                config,
                callback=report,
                checkpoint_dir=folder,
                checkpoint_seconds=self.attempt.checkpoint_seconds,
            )
        except TrainingStopped as error:
            raise Stopped from error

    def _evaluate(self, job: Job, config: TrainConfig, detector: Detector, encoded: EncodedShots) -> dict[str, Any]:
        """Of the photos held out from training, beside the same with hand-written prompts; OOD where there are some."""
        backbone, names = detector.backbone, detector.class_names
        shots = draw_shots(
            encoded.features, encoded.labels, names, backbone.dim, config.shots, config.calibration_share, config.seed
        )
        metrics: dict[str, Any] = {
            "left_out": len(encoded.left_out),
            "left_out_first": [f"{name}: {problem}" for name, problem in encoded.left_out[:_LISTED]],
            "n_id": len(shots.held_out),
            "score": detector.score_name,
        }
        if detector.fit.choice is not None:
            metrics["choice"] = detector.fit.choice.to_dict()
        if not len(shots.held_out):
            return metrics
        written = (shots.held_out @ detector.written.T).argmax(dim=-1)
        for prefix, classes in (("", detector.classify_features(shots.held_out)), ("zero_shot_", written)):
            metrics[f"{prefix}id_accuracy"] = accuracy(classes.numpy(), shots.held_out_labels.numpy())
        if job.ood is None:
            return metrics
        images = self.files.open_photos(job.ood, job.ood_name or "the out-of-distribution photos", self.limits)
        other = extract_features(
            backbone,
            images,
            cache=self.files.cache,
            batch_size=BATCH,
            on_error="skip",
            progress=lambda done, total: self._check_stop(),
        ).features
        if not len(other):
            raise UserError(f"None of the out-of-distribution photos ({job.ood_name}) could be read. Give others.")
        return metrics | {"ood": job.ood_name, "n_ood": len(other)} | _compare(detector, shots.held_out, other)


def _compare(detector: Detector, known: torch.Tensor, other: torch.Tensor) -> dict[str, Any]:
    """Metrics of the detector and, named "zero_shot_", of MCM on hand-written prompts on the same photos; "lead" holds
    the first's lead over the second: metric -> difference, lower and upper end of its bootstrap interval."""
    methods = [Method("", detector, detector.score_name)]
    if BASELINE in usable_scores(len(detector.class_names), detector.has):
        methods.append(Method("zero_shot_", detector, BASELINE))
    evaluation = evaluate(methods, known, None, {"ood": other}, repeats=_DRAWS)
    metrics: dict[str, Any] = {"lead": {name: list(values) for name, values in evaluation.lead.items()}}
    for row in evaluation.rows:
        metrics |= {f"{row.method}{name}": value for name, value in row.metrics.as_dict().items()}
    return metrics


def _read_features(path: Path, fingerprint: str) -> EncodedShots | None:
    if not path.is_file():
        return None
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["lsn-features"])
        if header["fingerprint"] not in (fingerprint, earlier_fingerprint(fingerprint)):
            return None
        left_out = [(name, problem) for name, problem in header["left_out"]]
        labels = file.get_tensor("labels").numpy()
        return EncodedShots(file.get_tensor("features"), labels, tuple(header["classes"]), left_out)
