"""Measures cells, those that share a training together, and goes on where an earlier run was interrupted."""

from __future__ import annotations

import errno
import logging
import shutil
import time
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness.images import Images
from benchmarks.harness.measure import Row
from benchmarks.harness.report import environment
from benchmarks.harness.setting import Setting
from benchmarks.paper.cells import Cell
from benchmarks.paper.encoding import encode
from benchmarks.paper.folders import Folders
from benchmarks.paper.memory import forget_peak, peak_gib
from benchmarks.paper.progress import Clock
from benchmarks.paper.record import FAILED, MEASURED, fingerprint, is_done, read_status, write_record
from benchmarks.paper.scores import (
    FEW,
    MANY,
    PREDICTED,
    SOME,
    Columns,
    by_detector,
    by_dual_coop,
    by_features,
    score_images,
)
from benchmarks.paper.wanted import Wanted
from lsn_core import UserError, __version__
from lsn_core.backbones.backbone import Backbone
from lsn_core.data.labelled import LabelledImages
from lsn_core.metrics import accuracy, ood_metrics
from lsn_core.scores.registry import BASELINE
from lsn_core.training.config import TrainConfig

log = logging.getLogger(__name__)

AVERAGE = "Average"
FULL = (errno.ENOSPC, errno.EDQUOT)
PERCENT = ("fpr95", "auroc", "aupr")


class Runner:
    """Cells of one backbone, whose images are encoded once.

    Args:
        wanted: settings of the run.
        folders: where images are.
        name: what the tables call the backbone.
        clock: tells how far the run is.
    """

    def __init__(self, wanted: Wanted, folders: Folders, name: str, backbone: Backbone, clock: Clock) -> None:
        self.wanted, self.folders, self.name, self.backbone, self.clock = wanted, folders, name, backbone, clock
        self._images: dict[str, Images] = {}
        self._settings: dict[tuple[str, int | None, int | None], Setting] = {}
        self._digests: dict[str, str] = {}
        self._encoding = 0.0  # seconds, of the cells that are being measured

    def left(self, cells: Sequence[Cell]) -> list[Cell]:
        """Those that are not measured yet, or with other settings, weights, images or another release."""
        return [cell for cell in cells if not is_done(self.wanted.out, cell, self.fingerprint(cell))]

    def run(self, cells: Sequence[Cell], after: Callable[[], object] = lambda: None) -> None:
        """Measures cells and writes a file for each; those of a training that fails get files that say why.

        Args:
            after: called when the cells of a training are done.
        """
        for _, members in groupby(cells, key=lambda cell: cell.training):
            group = list(members)
            self.clock.begin(group)
            self._encoding = 0.0
            try:
                self._measure(group)
            except (UserError, MemoryError, torch.OutOfMemoryError) as error:
                if isinstance(error.__cause__, OSError) and error.__cause__.errno in FULL:
                    raise error.__cause__  # noqa: B904 - no cell could be written, and all that follow would fail as well
                reason = str(error) if isinstance(error, UserError) else f"Out of memory: lower --memory-gib ({error})"
                log.error("%s: %s", group[0].name, reason)
                for cell in group:
                    write_record(self.wanted.out, cell, {"status": FAILED, "needs": reason, **self._facts(cell)})
            self.clock.end(group, self._encoding)
            after()

    def fingerprint(self, cell: Cell) -> str:
        """Names everything that decides a cell's numbers."""
        parts: list[Any] = [
            cell.name,
            self.backbone.fingerprint,
            self._digest(cell.classes),
            __version__,
            self.wanted.facts,
        ]
        parts.append(self.wanted.config(cell).to_dict() if cell.how.learns else None)
        return fingerprint(parts)

    # -- one training --------------------------------------------------------------------------------------------------

    def _measure(self, cells: Sequence[Cell]) -> None:
        forget_peak()
        first, begun = cells[0], time.perf_counter()
        setting, config = self._setting(first), self.wanted.config(first)
        known, unknown = self._tested(first)
        if first.how.learns:  # encoded now, so that its time is told apart
            encode(setting.drawn, f"training images of {first.classes} in {self.folders.imagenet.train}")
        encoded, worked = time.perf_counter(), time.process_time()
        self._encoding = encoded - begun
        columns, facts = self._columns(setting, config, cells)
        trained, worked = time.perf_counter(), time.process_time() - worked
        conditional = first.how.learns == "cocoop"
        kept = self.wanted.out / "scores" / fingerprint([first.training, self.fingerprint(first)])[:24]
        scores = {
            name: score_images(
                columns,
                images,
                {"cocoop": FEW, "features": SOME}.get(first.how.learns, MANY),
                kept / name if conditional else None,
                self.clock.scoring(name) if conditional else None,
            )
            for name, images in {"ID": known, **unknown}.items()
        }
        seconds = {
            "encoding": self._encoding,
            "training": facts.pop("training_seconds", trained - encoded),
            "training_processor": worked,
            "scoring": time.perf_counter() - trained,
        }
        peak = peak_gib()
        for cell in cells:
            write_record(
                self.wanted.out,
                cell,
                {"status": MEASURED}
                | self._metrics(cell, scores, known)
                | {"seconds": {part: round(value, 2) for part, value in seconds.items()}, "peak_gib": peak}
                | facts
                | self._facts(cell),
            )
        shutil.rmtree(kept, ignore_errors=True)
        setting.forget_detectors()

    def _columns(self, setting: Setting, config: TrainConfig, cells: Sequence[Cell]) -> tuple[Columns, Row]:
        """What scores images, and what is to be told of its training."""
        how = cells[0].how
        if not how.learns:
            return by_detector(setting.zero_shot, ("mcm",)), {}
        facts: Row = {"training_images": len(setting.drawn)}
        if how.learns == "features":
            return by_features(setting, [cell.how.score for cell in cells]), facts
        if how.learns == "dualcoop":
            setting.config = config
            return by_dual_coop(setting, self.wanted.shorten), facts
        detector = setting.detector(config)
        scores = ["mcm"] if config.positive.sets else []
        if config.negative.sets:
            scores += [*(["lsn"] if config.positive.sets else []), "negatives-only", "written and negatives"]
        return by_detector(detector, scores), facts | {"training_seconds": detector.metrics["train_seconds"]}

    def _metrics(self, cell: Cell, scores: dict[str, dict[str, Tensor]], known: Images) -> Row:
        inside = scores["ID"]
        metrics: dict[str, dict[str, float]] = {}
        for name, columns in scores.items():
            if name != "ID":
                found = ood_metrics(inside[cell.how.score], columns[cell.how.score]).as_dict()
                metrics[name] = {key: round(100 * found[key], 4) for key in PERCENT}
        metrics[AVERAGE] = {key: round(sum(row[key] for row in metrics.values()) / len(metrics), 4) for key in PERCENT}
        right = None
        if PREDICTED in inside:
            right = round(100 * accuracy(inside[PREDICTED].numpy(), known.labels.numpy()), 4)
        images = {name: len(next(iter(columns.values()))) for name, columns in scores.items()}
        whole = {"ID": len(self.folders.split(cell.classes).id_test)}
        whole |= {name: len(data) for name, data in self.folders.ood.items()}
        return {"metrics": metrics, "id_accuracy": right, "images": images, "sampled": images != whole}

    def _facts(self, cell: Cell) -> Row:
        """What a cell was measured on and with."""
        return {
            **self.wanted.facts,
            "settings": self.wanted.config(cell).to_dict() if cell.how.learns else {"score": BASELINE},
            "backbone": {"name": self.backbone.name, "weights_hash": self.backbone.weights_hash},
            "device": str(self.backbone.device),
            "threads": torch.get_num_threads(),
            "lsn": __version__,
            **environment(),
            "seed": cell.seed,
            "fingerprint": self.fingerprint(cell),
        }

    # -- images --------------------------------------------------------------------------------------------------------

    def _setting(self, cell: Cell) -> Setting:
        config = self.wanted.config(cell)
        key = (cell.classes, cell.seed, config.shots)
        if key not in self._settings:
            split = self.folders.split(cell.classes)
            self._settings[key] = Setting(
                self.backbone,
                split,
                config,
                self.wanted.out,
                progress=self.clock.encoding(f"training images of {cell.classes}"),
                callback=self.clock.training,
            )
        return self._settings[key]

    def _tested(self, cell: Cell) -> tuple[Images, dict[str, Images]]:
        """Test images of known and of unknown classes, encoded; a sample where each costs much, as asked for."""
        known = self._encoded(cell.classes, self.folders.split(cell.classes).id_test)
        unknown = {name: self._encoded(name, data) for name, data in self.folders.ood.items()}
        most = self.wanted.cocoop_images
        if cell.how.learns == "cocoop" and most is not None:
            known, unknown = known.sample(most), {name: images.sample(most) for name, images in unknown.items()}
        return known, unknown

    def _encoded(self, name: str, data: LabelledImages) -> Images:
        if name not in self._images:
            progress = self.clock.encoding(f"test images of {name}")
            self._images[name] = Images(self.backbone, data, self.wanted.out / "features", progress)
        where = self.folders.where(name)
        encode(self._images[name], f"test images of {name} in {where}")
        return self._images[name]

    def _digest(self, classes: str) -> str:
        """Names the images of a setting."""
        if classes not in self._digests:
            split = self.folders.split(classes)
            sets = {"train": split.train, "test": split.id_test, **split.ood}
            parts: dict[str, Any] = {name: [data.names, data.labels.tolist()] for name, data in sets.items()}
            self._digests[classes] = fingerprint(parts)
        return self._digests[classes]


def fail(out: Path, cells: Sequence[Cell], reason: str) -> None:
    """Writes files of cells that could not be begun, with what they need; what was measured before stays."""
    for cell in cells:
        if read_status(out, cell) != MEASURED:
            write_record(out, cell, {"status": FAILED, "needs": reason, "fingerprint": None})
