"""Chooses the score that gives a detector's verdicts, by hiding known classes from copies of it.

In each fold some of the classes are hidden: prompts are learned for the others only, and every candidate score is asked
to tell held-out photos of these from photos of the hidden ones. Only training photos are used: those that calibrate the
detector have no say, so that its promise holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lsn_core.class_names import listed
from lsn_core.data.sampling import split
from lsn_core.detector.choice import Choice
from lsn_core.detector.detector import Detector
from lsn_core.metrics import bootstrap_metrics, ood_metrics
from lsn_core.scores.registry import BASELINE, MEANS, NEGATIVES, SCORES, UNITS, Spread, spreads, total, usable_scores
from lsn_core.training.shots import Shots

CANDIDATES = (
    "fusion",
    "prototypes-vim",
    "neglabel-lsn",
    "difference",
    "lsn",
    "prototypes",
    "neglabel",
    BASELINE,
)
"""The first that can serve is taken unless another is clearly better, or unless one that uses nothing learned is better
at all: learning has to be worth it."""
CLEAR = 0.002  # least lead in AUROC over the first; it must exceed its own standard error, too
HELD_OUT = 0.25  # share of a known class's photos that a fold does not learn from
MOST = 512  # photos of either side that a fold is measured on
DRAWS = 200
LEVEL = 0.95

FoldScores = dict[str, tuple[tuple[float, float], np.ndarray, dict[str, Spread]]]
"""Score -> its AUROC and FPR95 in one fold, its AUROC in each draw of photos, and its `Spread`s on known ones."""


@dataclass(frozen=True)
class Fold:
    """Known and hidden classes among the training photos.

    Attributes:
        known, hidden: indices of classes.
        shots: photos of the known classes, to learn from and held out, labelled in the order of `known`.
        unknown: features of photos of the hidden classes, shape (M, D).
    """

    known: tuple[int, ...]
    hidden: tuple[int, ...]
    shots: Shots
    unknown: Tensor


def make_folds(shots: Shots, classes: int, seed: int) -> list[Fold]:
    """Two folds, each of which hides half of the classes; three that hide one each of three classes; none for fewer.

    Args:
        shots: the training photos of C classes.
        classes: C.
        seed: decides which classes stand together.
    """
    if classes < 3:
        return []
    order = np.random.Generator(np.random.PCG64([seed, classes])).permutation(classes)
    folds = []
    for part in np.array_split(order, 3 if classes == 3 else 2):
        hidden = tuple(sorted(part.tolist()))
        known = tuple(sorted(set(range(classes)) - set(hidden)))
        own = torch.isin(shots.labels, torch.tensor(known))
        x = shots.features[own]
        y = torch.searchsorted(torch.tensor(known), shots.labels[own])
        learn, held = (torch.from_numpy(i) for i in split(y.numpy(), HELD_OUT, seed))
        if not len(held):
            return []
        folds.append(Fold(known, hidden, Shots(x[learn], y[learn], x[held], y[held]), shots.features[~own]))
    return folds


def choose_score(
    folds: Sequence[tuple[Fold, Detector]], class_names: Sequence[str], given: str | None = None
) -> tuple[Choice, Measured]:
    """Measures the candidates in every fold and chooses.

    Args:
        folds: each with a detector that learned from its `shots`, and keeps them as photos.
        class_names: the C classes.
        given: a candidate that is taken however it does; None to choose.
    """
    measured = Measured.of([fold_scores(*fold, seed) for seed, fold in enumerate(folds)])
    names = [name for name in CANDIDATES if name in measured.draws]
    table = {name: measured.row(name) for name in names}
    chosen = best = names[0]
    for name in names[1:]:
        lead = measured.draws[name] - measured.draws[chosen]
        if table[name]["auroc"] - table[chosen]["auroc"] > max(CLEAR, float(lead.std(ddof=1))):
            best = name if table[name]["auroc"] > table[best]["auroc"] else best
    if _learned(best):
        best = max((best, *(name for name in names if not _learned(name))), key=lambda name: table[name]["auroc"])
    chosen = given or best
    helps = _learned(chosen)
    hidden = tuple(tuple(class_names[i] for i in fold.hidden) for fold, _ in folds)
    return Choice(
        chosen,
        table,
        hidden,
        helps,
        _reason(chosen, table, helps) if given is None else f"The score {given} was asked for.",
    ), measured


def _learned(name: str) -> bool:
    return NEGATIVES in SCORES[name].needs


def _reason(chosen: str, table: Mapping[str, Mapping[str, float]], helps: bool) -> str:
    row = table[chosen]
    gain = f"{100 * row['lead']:+.1f} points of AUROC against zero-shot MCM"
    if not helps:
        learned = [name for name in table if _learned(name)]
        beside = f", and nothing learned did better ({listed(learned)})" if learned else ""
        photos = " and the mean photo of each class" if MEANS in SCORES[chosen].needs else ""
        return f"Hand-written prompts{photos} give the verdicts: {chosen} told hidden classes best ({gain}){beside}."
    if row["lead_low"] > 0:
        return f"Learning helps: {chosen} told hidden classes better, {gain}."
    return f"{chosen} gives the verdicts; with so few photos its lead is not certain ({gain})."


@dataclass(frozen=True)
class Measured:
    """What the folds gave.

    Attributes:
        metrics: score -> (AUROC, FPR95), mean over the folds.
        draws: score -> AUROC of each draw of photos, mean over the folds, shape (DRAWS,).
        profiles: score -> part -> mean and spread over held-out photos of known classes, mean over the folds.
    """

    metrics: dict[str, tuple[float, float]]
    draws: dict[str, np.ndarray]
    profiles: dict[str, dict[str, Spread]]

    @property
    def units(self) -> dict[str, dict[str, Spread]]:
        """Of the single scores."""
        return {name: profile for name, profile in self.profiles.items() if not SCORES[name].sum_of}

    @staticmethod
    def of(folds: Sequence[FoldScores]) -> Measured:
        names = [name for name in folds[0] if all(name in fold for fold in folds)]
        metrics, draws, profiles = {}, {}, {}
        for name in names:
            rows = [fold[name] for fold in folds]
            auroc, fpr95 = np.mean([row[0] for row in rows], axis=0).tolist()
            metrics[name] = auroc, fpr95
            draws[name] = np.mean([row[1] for row in rows], axis=0)
            profiles[name] = {
                part: (float(np.mean([r[2][part][0] for r in rows])), float(np.mean([r[2][part][1] for r in rows])))
                for part in rows[0][2]
            }
        return Measured(metrics, draws, profiles)

    def row(self, name: str) -> dict[str, float]:
        """A line of `Choice.folds`."""
        auroc, fpr95 = self.metrics[name]
        low, high = np.quantile(self.draws[name] - self.draws[BASELINE], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        lead = auroc - self.metrics[BASELINE][0]
        values = {"auroc": auroc, "fpr95": fpr95, "lead": lead, "lead_low": float(low), "lead_high": float(high)}
        return {key: round(value, 5) for key, value in values.items()}


def fold_scores(fold: Fold, detector: Detector, seed: int) -> FoldScores:
    """Every score that can serve, on held-out photos of the known classes against those of the hidden ones.

    Args:
        detector: learned from the fold's shots, which it keeps as photos.
        seed: of the draws of photos.
    """
    known, unknown = (detector.inputs(_some(x)) for x in (fold.shots.held_out, fold.unknown))
    found: FoldScores = {}
    units: dict[str, dict[str, Spread]] = {}
    usable = usable_scores(len(fold.known), detector.has | {UNITS})
    for name in sorted(usable, key=lambda name: bool(SCORES[name].sum_of)):  # sums after the scores that they add up
        known_parts, unknown_parts = (detector.parts(inputs, name, units) for inputs in (known, unknown))
        profile = spreads(known_parts)
        units[name] = profile
        inside, outside = (total(parts).double().numpy() for parts in (known_parts, unknown_parts))
        metrics = ood_metrics(inside, outside)
        draws = bootstrap_metrics(inside, [outside], DRAWS, seed)[:, 0, 0]
        found[name] = (metrics.auroc, metrics.fpr95), draws, profile
    return found


def _some(features: Tensor) -> Tensor:
    """At most MOST of them, evenly spaced in their order."""
    if len(features) <= MOST:
        return features
    return features[torch.linspace(0, len(features) - 1, MOST).round().long()]
