"""Measures methods on splits: metrics of each, their means and spreads, and tables of them as files."""

from __future__ import annotations

import csv
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.images import Images, Scorer
from benchmarks.harness.report import RESULTS, environment, write_results
from benchmarks.harness.setting import Setting
from lsn_core.backbones.backbone import Backbone
from lsn_core.metrics import accuracy, ood_metrics

log = logging.getLogger(__name__)

Row = dict[str, Any]
MEASURES = ("auroc", "fpr95", "aupr", "id_accuracy")


class Meter:
    """Test images of one setting, encoded once for all methods."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.known: Images = setting.images(setting.split.id_test)
        self.unknown = {name: setting.images(data) for name, data in setting.split.ood.items()}

    def measure(self, name: str, scorer: Scorer, predict: Scorer | None = None, most: int | None = None) -> list[Row]:
        """One row for each OOD set: protocol, split, method, ood and the metrics, as shares in [0, 1].

        Args:
            predict: gives the class index of images, for the ID accuracy.
            most: images of either side that it is measured on, evenly spaced in their order; None for all.
        """
        begun = time.process_time()
        most = sys.maxsize if most is None else most
        known_images = self.known.sample(most)
        known = scorer(known_images).detach()
        right = None if predict is None else accuracy(predict(known_images).numpy(), known_images.labels.numpy())
        rows = []
        for ood, every in self.unknown.items():
            images = every.sample(most)
            row: Row = {"protocol": self.setting.split.protocol, "split": self.setting.split.name}
            row |= {"method": name, "ood": ood, **ood_metrics(known, scorer(images).detach()).as_dict()}
            rows.append(row | {"id_accuracy": right, "n_id": len(known_images), "n_ood": len(images)})
        log.info("%s, %s: %.1f s", self.setting.split.name, name, time.process_time() - begun)
        return rows


def summarise(rows: Sequence[Row], by: Sequence[str]) -> list[Row]:
    """Means and standard deviations (n - 1) of the metrics over the rows that agree in `by`, in percent."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in by), []).append(row)
    found = []
    for key, members in groups.items():
        line: Row = dict(zip(by, key, strict=True))
        for measure in MEASURES:
            values = 100 * np.array([member[measure] for member in members if member[measure] is not None])
            if not len(values):
                line |= {measure: None, f"{measure}_std": None}
                continue
            line[measure] = round(float(values.mean()), 2)
            line[f"{measure}_std"] = round(float(values.std(ddof=1)), 2) if len(values) > 1 else None
        found.append(line | {"n": len(members)})
    return found


def with_average(summary: Sequence[Row], over: str, keep: str = "method") -> list[Row]:
    """The rows and, for each value of `keep`, one whose `over` is "average": the mean of its rows."""
    averages = []
    for value in dict.fromkeys(row[keep] for row in summary):
        members = [row for row in summary if row[keep] == value]
        line: Row = {over: "average", keep: value}
        for measure in MEASURES:
            values = [row[measure] for row in members if row[measure] is not None]
            line[measure] = round(float(np.mean(values)), 2) if values else None
        averages.append(line | {f"{measure}_std": None for measure in MEASURES} | {"n": len(members)})
    return [*summary, *averages]


def write_table(
    name: str,
    title: str,
    command: str,
    summary: Sequence[Row],
    *,
    backbone: Backbone,
    seed: int,
    seconds: Mapping[str, float],
    details: Sequence[Row] = (),
    more: Mapping[str, Any] | None = None,
    folder: Path = RESULTS,
) -> None:
    """Writes NAME.csv (a line for each row of `summary`), NAME.json (that and how it was made) and NAME_details.csv."""
    write_results(
        name,
        {
            "title": title,
            "command": command,
            **environment(seed),
            "backbone": backbone.name,
            "weights_hash": backbone.weights_hash,
            "seconds": {part: round(value, 1) for part, value in seconds.items()},
            **(more or {}),
            "rows": list(summary),
        },
        folder,
    )
    for path, rows in ((folder / f"{name}.csv", summary), (folder / f"{name}_details.csv", details)):
        if rows:
            with open(path, "w", newline="") as file:
                columns = list(dict.fromkeys(key for row in rows for key in row))
                writer = csv.DictWriter(file, columns, lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
