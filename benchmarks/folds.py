"""How settings of `fast` and every score do on folds of hidden known classes, in training images alone.

    python -m benchmarks.folds --data DIR --vary updates          # how long and how fast to learn, from few and many
    python -m benchmarks.folds --data DIR --vary paper            # the paper's schedule beside `fast` and shorter ones
    python -m benchmarks.folds --data DIR --vary scores           # every registered score, at --shots photos a class
    python -m benchmarks.folds --data DIR --vary temperature      # of the negative prompts, in units of the backbone's

What the library fixes was chosen by these tables: the updates of `fast`, the temperature of its negative prompts, the
candidates of `lsn_core.training.choice` and the score from names alone. No test image is opened: the known classes of
the first split of each small-scale set are halved, prompts are learned for one half, and the other half is unknown.
Photos that were not drawn measure.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.harness.options import add_options, data_folder, open_bench, show_progress
from benchmarks.harness.protocols import ZOC, zoc_splits
from benchmarks.harness.report import markdown_table, write_table
from lsn_core import extract_features, get_preset, train
from lsn_core.backbones.backbone import Backbone
from lsn_core.data.sampling import draw
from lsn_core.detector.fit import Fit
from lsn_core.scores.photos import KnownPhotos
from lsn_core.scores.registry import BASELINE
from lsn_core.training.choice import CANDIDATES, Fold, Measured, fold_scores, make_folds
from lsn_core.training.config import TrainConfig
from lsn_core.training.shots import Shots

SHOTS = (4, 16, 64)
UPDATES = ((15, 20), (25, 30), (50, 60), (100, 120))
RATES = (1.0, 2.0)
TEMPERATURES = (1.0, 2.0, 5.0, 10.0)
DEFAULT = CANDIDATES[0]  # what gives the verdicts where nothing is clearly better


def variants(vary: str, shots: int) -> Iterator[tuple[dict[str, object], TrainConfig]]:
    """What is varied, and the config with it."""
    config = replace(get_preset("fast", shots=shots), choose_score=False, calibration_share=0.0)
    if vary == "scores":
        yield {"shots": shots}, config
    for temperature in TEMPERATURES if vary == "temperature" else ():
        prompts = replace(config.negative, relative_temperature=temperature)
        yield {"shots": shots, "relative_temperature": temperature}, replace(config, negative=prompts)
    for few in SHOTS if vary == "updates" else (shots,) if vary == "paper" else ():
        for updates in UPDATES:
            for rate in RATES if vary == "updates" else RATES[:1]:
                about = {"shots": few, "updates": "{} + {}".format(*updates), "rate": rate}
                yield about, _shortened(replace(config, shots=few), updates, rate)
    if vary == "paper":
        whole = replace(get_preset("paper", shots=shots), choose_score=False, calibration_share=0.0)
        yield {"shots": shots, "updates": "as the paper", "rate": 1.0}, whole


def _shortened(config: TrainConfig, updates: tuple[int, int], rate: float) -> TrainConfig:
    """So many updates of positive and of negative prompts, at learning rates `rate` times as high."""
    positive, negative = (
        replace(side, updates=count, lr=rate * side.lr)
        for side, count in zip((config.positive, config.negative), updates, strict=True)
    )
    return replace(config, positive=positive, negative=negative)


def measured_folds(
    features: Tensor, labels: np.ndarray, names: tuple[str, ...], backbone: Backbone, config: TrainConfig
) -> tuple[Measured, float]:
    """Both halves of the classes in turn: learned from the drawn photos, measured on the others.

    Args:
        features: of all training photos of the C known classes, shape (N, D).
        labels: class indices, shape (N,).

    Returns:
        What was measured, and the seconds of processor time that both trainings took.
    """
    drawn = np.isin(np.arange(len(labels)), draw(labels, names, config.shots, config.seed))
    rest = ~drawn if not drawn.all() else drawn
    y = torch.from_numpy(labels)
    found, seconds = [], 0.0
    for fold in make_folds(Shots(features, y, features[:0], y[:0]), len(names), config.seed):
        known = torch.isin(y, torch.tensor(fold.known))
        inside = torch.searchsorted(torch.tensor(fold.known), y)
        learn, held = (known & torch.from_numpy(part) for part in (drawn, rest))
        shots = Shots(features[learn], inside[learn], features[held], inside[held])
        measuring = Fold(fold.known, fold.hidden, shots, features[~known])
        begun = time.process_time()
        trained = train(shots.features, shots.labels, [names[i] for i in fold.known], backbone, config)
        seconds += time.process_time() - begun
        photos = KnownPhotos(shots.features, shots.labels, len(fold.known))
        found.append(fold_scores(measuring, trained.with_fit(Fit(photos=photos), trained.score_name), config.seed))
    return Measured.of(found), seconds


@dataclass
class _Row:
    """What is said of one variant and score, and what was measured: each list in the order of sets and seeds."""

    head: dict[str, object]
    shots: int
    preset: bool  # whether the variant is `fast` itself
    metrics: list[tuple[float, float]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def told(self, rows: Sequence[_Row]) -> dict[str, object]:
        """The row as it is written; its lead is over the row of `fast` with as many shots, set by set."""
        auroc, fpr95 = 100 * np.mean(self.metrics, axis=0)
        where, score = self.head["protocol"], self.head["score"]
        like = (row for row in rows if row.preset and (row.head["protocol"], row.head["score"]) == (where, score))
        base = next((row for row in like if row.shots == self.shots), self)
        lead = 100 * np.subtract(self.metrics, base.metrics)[:, 0]
        return self.head | {
            "auroc": round(auroc, 2),
            "fpr95": round(fpr95, 2),
            "auroc_spread": round(100 * float(np.std(self.metrics, axis=0)[0]), 2),
            "lead": round(float(lead.mean()), 2),
            "lead_error": round(float(lead.std(ddof=1)) / len(lead) ** 0.5, 2) if len(lead) > 1 else None,
            "train_seconds": round(float(np.mean(self.seconds)), 2),
        }


def main() -> None:
    """Writes benchmarks/results/folds_VARY.json and .csv: a line for each variant and score, averaged over the sets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--vary", choices=("updates", "paper", "scores", "temperature"), default="scores")
    options = parser.parse_args()
    show_progress()
    data, bench, begun = data_folder(options), open_bench(options), time.process_time()
    found: dict[tuple[object, ...], _Row] = {}
    # CIFAR+50 has the known classes of CIFAR+10.
    for protocol in (name for name in ZOC if name != "CIFAR+50"):
        images = zoc_splits(data, protocol)[0].train
        cache = Path(bench.folder) / "features"
        features = extract_features(bench.backbone, images, cache=cache, progress=False).features
        for about, config in variants(options.vary, options.shots):
            preset = config == next(variants("scores", config.shots or 0))[1]
            for seed in bench.seeds:
                measured, seconds = measured_folds(
                    features, images.labels, images.class_names, bench.backbone, replace(config, seed=seed)
                )
                for score, metrics in measured.metrics.items():
                    for where in (protocol, "average"):
                        head = {"protocol": where, **about, "score": score}
                        row = found.setdefault(tuple(head.values()), _Row(head, config.shots or 0, preset))
                        row.metrics.append(metrics)
                        row.seconds.append(seconds)
    rows = [row.told(list(found.values())) for row in found.values()]
    rows.sort(key=lambda told: told["protocol"] != "average")
    write_table(
        f"folds_{options.vary}",
        f"Folds of hidden known classes in training images: {options.vary}",
        f"python -m benchmarks.folds --vary {options.vary} {bench.arguments}",
        rows,
        seeds=bench.seeds,
        facts=bench.facts,
        seconds={"all": time.process_time() - begun},
        folder=options.out,
    )
    for told in rows:
        if told["protocol"] == "average":
            print(told)


def schedules_section(rows: Sequence[dict[str, Any]]) -> str:
    """What shorter and longer schedules cost and give at the rates of `fast`, averaged over all sets, as Markdown."""
    scores = (BASELINE, "mcm", "lsn", "difference", DEFAULT)
    found: dict[tuple[int, str], dict[str, dict[str, Any]]] = {}
    for row in rows:
        if row["protocol"] == "average" and row["rate"] == 1:
            found.setdefault((row["shots"], row["updates"]), {})[row["score"]] = row
    lines = []
    for (shots, updates), by_score in found.items():
        cells = [_auroc(by_score[score]) for score in scores]
        lines.append([str(shots), updates, f"{by_score[DEFAULT]['train_seconds']:.1f}", *cells])
    return markdown_table(["shots", "updates", "seconds", *(f"`{score}`" for score in scores)], lines)


def _auroc(row: dict[str, Any]) -> str:
    alike = row["lead"] == row["lead_error"] == 0
    return f"{row['auroc']:.2f}" + ("" if alike else f" ({row['lead']:+.2f} ± {row['lead_error']:.2f})")


if __name__ == "__main__":
    main()
