"""Measures methods on the test images of one setting, each beside zero-shot MCM on the same images."""

from __future__ import annotations

import logging
import sys
import time
import zlib
from typing import Any

import numpy as np

from benchmarks.harness.images import Images, Scorer
from benchmarks.harness.setting import Setting
from lsn_core.metrics import OODMetrics, accuracy, bootstrap_metrics, ood_metrics
from lsn_core.scores.registry import BASELINE, SCORES

log = logging.getLogger(__name__)

Row = dict[str, Any]
MEASURES = ("auroc", "fpr95", "aupr", "id_accuracy")
LED = ("auroc", "fpr95")
"""Metrics whose difference from zero-shot MCM is measured, too."""
DRAWS = "draws"
"""Key of a row's differences in each bootstrap draw of the images, shape (B, 2) as in `LED`; never written."""


class Meter:
    """Test images of one setting, encoded once for all methods.

    Args:
        draws: bootstrap draws B behind each interval. All methods and all seeds meet the same draws of a split's
            images, so that differences between them are paired.
    """

    def __init__(self, setting: Setting, draws: int) -> None:
        self.setting, self.draws = setting, draws
        self.known: Images = setting.images(setting.split.id_test)
        self.unknown = {name: setting.images(data) for name, data in setting.split.ood.items()}
        self._baselines: dict[int, tuple[list[OODMetrics], np.ndarray]] = {}

    def measure(
        self,
        name: str,
        scorer: Scorer,
        predict: Scorer | None = None,
        *,
        most: int | None = None,
        seeded: bool = True,
    ) -> list[Row]:
        """One row for each OOD set: protocol, split, seed, method, ood and the metrics, as shares in [0, 1].

        With one class there is no MCM, so that leads are None.

        Args:
            predict: gives the class index of images, for the ID accuracy.
            most: images of either side that it is measured on, evenly spaced in their order; None for all.
            seeded: whether the method depends on the images drawn; else the row's seed is None.
        """
        begun = time.process_time()
        most = sys.maxsize if most is None else most
        known = self.known.sample(most)
        right = None if predict is None else accuracy(predict(known).numpy(), known.labels.numpy())
        metrics, draws = self._metrics(scorer, most)
        theirs, their_draws = self._baseline(most)
        rows = []
        for i, (ood, every) in enumerate(self.unknown.items()):
            row: Row = {"protocol": self.setting.split.protocol, "split": self.setting.split.name}
            row |= {"seed": self.setting.config.seed if seeded else None, "method": name, "ood": ood}
            row |= metrics[i].as_dict() | {"id_accuracy": right}
            row |= {
                f"{key}_lead": getattr(metrics[i], key) - getattr(theirs[i], key) if theirs else None for key in LED
            }
            row |= {"n_id": len(known), "n_ood": min(most, len(every))}
            row["sampled"] = len(known) < len(self.known) or min(most, len(every)) < len(every)
            rows.append(row | {DRAWS: draws[:, i] - their_draws[:, i] if theirs else None})
        log.info("%s, seed %s, %s: %.1f s", row["split"], row["seed"], name, time.process_time() - begun)
        return rows

    def _baseline(self, most: int) -> tuple[list[OODMetrics], np.ndarray]:
        if len(self.setting.class_names) < SCORES[BASELINE].min_classes:
            return [], np.zeros(0)
        if most not in self._baselines:
            written = self.setting.zero_shot
            self._baselines[most] = self._metrics(lambda x: written.score_features(x.embedding, BASELINE), most)
        return self._baselines[most]

    def _metrics(self, scorer: Scorer, most: int) -> tuple[list[OODMetrics], np.ndarray]:
        """Metrics on each of S OOD sets, and those of `LED` in each draw of the images, shape (B, S, 2)."""
        known = scorer(self.known.sample(most)).detach()
        unknown = [scorer(images.sample(most)).detach() for images in self.unknown.values()]
        seed = zlib.crc32(f"{self.setting.split.protocol}/{self.setting.split.name}".encode())
        places = [OODMetrics._fields.index(name) for name in LED]
        draws = bootstrap_metrics(known, unknown, self.draws, seed)[:, :, places]
        return [ood_metrics(known, scores) for scores in unknown], draws
