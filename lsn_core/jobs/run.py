"""One sitting of one job, in a process of its own: features, training, evaluation, result."""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import sqlite3
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from lsn_core.atomic import write_safetensors
from lsn_core.backbones import Backbone, load_backbone
from lsn_core.checkpoints import CHECKPOINT_FILE, read_checkpoint
from lsn_core.data import LabelledImages, few_shot, load_data
from lsn_core.detector import Detector
from lsn_core.errors import UserError
from lsn_core.features import extract_features
from lsn_core.jobs.files import FEATURES, RESULT, JobFiles, calling
from lsn_core.jobs.job import EVALUATING, TRAINING, Job, Point
from lsn_core.jobs.limits import JobLimits
from lsn_core.jobs.registry import LostClaim, Registry
from lsn_core.jobs.sitting import Sitting
from lsn_core.jobs.slots import when_parent_ends
from lsn_core.metrics import accuracy, ood_metrics
from lsn_core.shots import draw_shots
from lsn_core.training import Progress, TrainingStopped, train
from lsn_core.training_config import TrainConfig

log = logging.getLogger(__name__)

BATCH = 16
"""Photos encoded at a time; a stop is noticed between batches."""

_LISTED = 20  # unusable photos that are named


class _Stopped(Exception):
    pass


@dataclass(frozen=True)
class _Prepared:
    features: Tensor
    labels: np.ndarray
    class_names: tuple[str, ...]
    left_out: list[tuple[str, str]]


class _Work:
    def __init__(self, sitting: Sitting, stop: threading.Event) -> None:
        self.sitting, self.stop = sitting, stop
        folder = Path(sitting.folder)
        self.registry, self.files, self.limits = Registry(folder), JobFiles(folder), JobLimits.read(folder)

    def do(self) -> None:
        """Does the job; what goes wrong is written down as its error."""
        try:
            job = self.registry.get(self.sitting.job)
            if job is not None:
                self._do(job)
        except (_Stopped, TrainingStopped):
            log.info("Stopped.")  # the worker knows why, and writes it down
        except LostClaim:
            log.warning("The job was taken away.")
        except Exception as error:
            log.exception("The job failed.")
            self.registry.fail(self.sitting.job, self.sitting.claim, _sentence(error))

    def _do(self, job: Job) -> None:
        torch.set_num_threads(job.threads or 1)
        config = TrainConfig.from_dict(job.config)
        self.limits.check_room(self.files.free())
        self.files.folder(job.id).mkdir(exist_ok=True)
        backbone = load_backbone(job.backbone, self.sitting.device)
        found = self._prepare(job, config, backbone)
        self._go_on(TRAINING)
        detector = self._train(job, config, backbone, found)
        self._go_on(EVALUATING)
        metrics = self._evaluate(job, config, detector, found)
        detector.metrics |= {"data": job.name, **metrics}
        detector.save(self.files.folder(job.id) / RESULT)
        self._check_stop()
        self.registry.finish(job.id, self.sitting.claim, RESULT, detector.metrics)

    def _go_on(self, to: str) -> None:
        self._check_stop()
        self.registry.advance(self.sitting.job, self.sitting.claim, to)

    def _check_stop(self) -> None:
        if self.stop.is_set():
            raise _Stopped

    def _prepare(self, job: Job, config: TrainConfig, backbone: Backbone) -> _Prepared:
        path = self.files.folder(job.id) / FEATURES
        kept = _read_features(path, backbone.fingerprint)
        if kept is not None:
            return kept
        # A checkpoint belongs to the very features it was trained on.
        (path.parent / CHECKPOINT_FILE).unlink(missing_ok=True)
        images = self._open(job.dataset, job.name)
        images = images.subset(few_shot(images, config.shots, config.seed))
        told = 0.0

        def tell(done: int, total: int) -> None:
            nonlocal told
            self._check_stop()
            if done == total or time.monotonic() - told > 0.25:
                self.registry.prepared(job.id, self.sitting.claim, done, total)
                told = time.monotonic()

        found = extract_features(
            backbone, images, cache_dir=self.files.cache, batch_size=BATCH, progress=tell, on_error="skip"
        )
        labels = images.labels[found.kept]
        header = {"fingerprint": backbone.fingerprint, "classes": list(images.class_names), "left_out": found.errors}
        tensors = {"features": found.features, "labels": torch.from_numpy(labels)}
        write_safetensors(path, tensors, {"lsn-features": json.dumps(header)})
        return _Prepared(found.features, labels, images.class_names, found.errors)

    def _open(self, dataset: str, name: str) -> LabelledImages:
        path = self.files.dataset(dataset)
        with calling(path, name):
            return load_data(path, self.limits.data())

    def _train(self, job: Job, config: TrainConfig, backbone: Backbone, found: _Prepared) -> Detector:
        folder, begun, told = self.files.folder(job.id), time.monotonic(), -1.0
        try:
            read_checkpoint(folder)
        except UserError as error:
            log.warning("%s Training begins anew.", error)
            (folder / CHECKPOINT_FILE).unlink(missing_ok=True)

        def tell(progress: Progress) -> bool:
            nonlocal told
            now = time.monotonic()
            # Some two thousand points at most, however long it takes.
            if told < 0 or progress.step == progress.total or now - told >= max(0.25, (now - begun) / 500):
                point = Point(progress.step, progress.phase, progress.loss, progress.accuracy, progress.seconds)
                self.registry.trained(job.id, self.sitting.claim, point, progress.total, first=told < 0)
                told = now
            return self.stop.is_set()

        return train(
            found.features, found.labels, found.class_names, backbone, config, callback=tell, checkpoint_dir=folder,
            checkpoint_seconds=self.sitting.checkpoint_seconds,
        )  # fmt: skip

    def _evaluate(self, job: Job, config: TrainConfig, detector: Detector, found: _Prepared) -> dict[str, Any]:
        """Of the photos held out from training, beside the same with hand-written prompts; OOD where there are some."""
        backbone, names = detector.backbone, detector.class_names
        shots = draw_shots(
            found.features, found.labels, names, backbone.dim, config.shots, config.calibration_share, config.seed
        )
        zero_shot = Detector.zero_shot(backbone, names, score_name="mcm")
        metrics: dict[str, Any] = {
            "left_out": len(found.left_out),
            "left_out_first": [f"{name}: {problem}" for name, problem in found.left_out[:_LISTED]],
            "n_id": len(shots.held_out),
        }
        if not len(shots.held_out):
            return metrics
        judges = {"": detector, "zero_shot_": zero_shot}
        for prefix, judge in judges.items():
            right = accuracy(judge.classify_features(shots.held_out).numpy(), shots.held_out_labels.numpy())
            metrics[f"{prefix}id_accuracy"] = right
        if job.ood is None:
            return metrics
        images = self._open(job.ood, job.ood_name or "the out-of-distribution photos")
        other = extract_features(
            backbone, images, cache_dir=self.files.cache, batch_size=BATCH, on_error="skip",
            progress=lambda done, total: self._check_stop(),
        ).features  # fmt: skip
        if not len(other):
            raise UserError(f"None of the out-of-distribution photos ({job.ood_name}) could be read. Give others.")
        metrics |= {"ood": job.ood_name, "n_ood": len(other), "score": detector.score_name}
        for prefix, judge in judges.items():
            scores = (judge.score_features(x).numpy() for x in (shots.held_out, other))
            metrics |= {f"{prefix}{name}": value for name, value in ood_metrics(*scores).as_dict().items()}
        return metrics


def _read_features(path: Path, fingerprint: str) -> _Prepared | None:
    if not path.is_file():
        return None
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["lsn-features"])
        if header["fingerprint"] != fingerprint:
            return None
        left_out = [(name, problem) for name, problem in header["left_out"]]
        labels = file.get_tensor("labels").numpy()
        return _Prepared(file.get_tensor("features"), labels, tuple(header["classes"]), left_out)


def _sentence(error: Exception) -> str:
    if isinstance(error, UserError):
        return str(error)
    full = isinstance(error, sqlite3.OperationalError) and "full" in str(error)
    if full or (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)):
        return "The disk is full. Delete old jobs or make room, then resume the job."
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error):
        return "Memory ran out. Use fewer classes or a smaller memory_gib in the settings, then start the job again."
    return f"Something unexpected went wrong ({type(error).__name__}: {error}). The job's log says more."


def main() -> None:
    """Entry point of the process."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    when_parent_ends(lambda: os.kill(os.getpid(), signal.SIGKILL))
    try:
        Path("/proc/self/oom_score_adj").write_text("800")  # if memory runs out, it had better be this process
    except OSError:
        log.debug("the system does not let a process offer itself")
    _Work(Sitting(**json.loads(sys.argv[1])), stop).do()


if __name__ == "__main__":
    main()
