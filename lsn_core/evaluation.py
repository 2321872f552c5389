"""How well detectors tell known images from others, beside one another on the same images, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lsn_core.class_names import fold_name
from lsn_core.detector.detector import Detector
from lsn_core.errors import UserError
from lsn_core.metrics import OODMetrics, accuracy, bootstrap_metrics, ood_metrics

AVERAGE = "average"
LEVEL = 0.95
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Method:
    """A way to score images: a detector's prompts, and a registered score of them; `name` is what to call it."""

    name: str
    detector: Detector
    score: str


@dataclass(frozen=True)
class Row:
    """One method on one OOD set, or its average over all of them, where `n_ood` counts the images of all sets.

    Attributes:
        ood: name of the OOD set; AVERAGE for the average.
        method, score: name of the method and of its score.
        metrics: AUROC, FPR95 and AUPR.
        id_accuracy: share of ID images given their class, in [0, 1]; None where their classes are not known.
        n_id, n_ood: number of images on each side.
        intervals: metric -> lower and upper end of the bootstrap interval at LEVEL; empty where none was asked for.
    """

    ood: str
    method: str
    score: str
    metrics: OODMetrics
    id_accuracy: float | None
    n_id: int
    n_ood: int
    intervals: dict[str, tuple[float, float]]

    def as_dict(self) -> dict[str, str | float | int | None]:
        """The line that the command `evaluate` prints as JSON."""
        line: dict[str, str | float | int | None] = {"ood": self.ood, "score": self.score, **self.metrics.as_dict()}
        return line | {"id_accuracy": self.id_accuracy, "n_id": self.n_id, "n_ood": self.n_ood}


@dataclass(frozen=True)
class Evaluation:
    """What methods reach on the same images.

    Attributes:
        rows: OOD set by OOD set, methods in their order.
        averages: over the OOD sets, one a method.
        known: method -> scores of the ID images, shape (N,).
        others: OOD set -> method -> scores, shape (M,).
        lead: metric -> (difference, lower, upper end) of the first method's average over the last's, from the same
            draws of images; empty without intervals or with one method.
    """

    rows: list[Row]
    averages: list[Row]
    known: dict[str, Floats]
    others: dict[str, dict[str, Floats]]
    lead: dict[str, tuple[float, float, float]]


def class_targets(class_names: Sequence[str], detector: Detector, where: str) -> list[int]:
    """Indices into the detector's classes.

    Args:
        class_names: the class of each ID image; spellings count as the same as `fold_name` tells.
        where: what to call the image set in messages.

    Raises:
        UserError: there are classes that the detector does not know.
    """
    index = {fold_name(name): i for i, name in enumerate(detector.class_names)}
    folded = {name: fold_name(name) for name in set(class_names)}
    unknown = sorted(name for name in folded if folded[name] not in index)
    if unknown:
        raise UserError(
            f"{where} has images of {len(unknown)} classes that the detector does not know "
            f"({', '.join(unknown[:5])}): in-distribution images must show its classes. "
            "Take them out, or give them as out-of-distribution images."
        )
    return [index[folded[name]] for name in class_names]


def evaluate(
    methods: Sequence[Method],
    known: Tensor,
    targets: Sequence[int] | None,
    others: Mapping[str, Tensor],
    *,
    repeats: int = 0,
    seed: int = 0,
) -> Evaluation:
    """Measures every method on every OOD set.

    Args:
        methods: of different names; their detectors share a backbone and its classes.
        known: features of the ID images, shape (N, D).
        targets: index of each ID image's class, or None where that is not known.
        others: name of an OOD set -> features, shape (M, D).
        repeats: bootstrap draws behind each interval; 0 for none.
        seed: of the draws.

    Raises:
        UserError: there are no images on one side, or a score cannot be computed.

    Examples:
        >>> from lsn_core import Detector, evaluate, load_backbone
        >>> from lsn_core.evaluation import Method
        >>> backbone = load_backbone("embedded", "cpu")
        >>> detector = Detector.zero_shot(backbone, ["dog", "cat"])
        >>> known, others = backbone.encode_texts(["a dog", "a cat"]), backbone.encode_texts(["a car", "a church"])
        >>> evaluation = evaluate([Method("MCM", detector, "mcm")], known, [0, 1], {"texts": others})
        >>> evaluation.rows[0].metrics.auroc, evaluation.rows[0].id_accuracy
        (1.0, 1.0)
    """
    if not others:
        raise UserError("Give at least one set of out-of-distribution images to measure against.")
    known_scores = {method.name: _scores(method, known) for method in methods}
    other_scores = {
        name: {method.name: _scores(method, features) for method in methods} for name, features in others.items()
    }
    columns, averages, lead = [], [], {}
    mean_draws: list[Floats] = []
    for method in methods:
        id_scores = known_scores[method.name]
        ood_scores = {name: by_method[method.name] for name, by_method in other_scores.items()}
        right = None
        if targets is not None:
            right = accuracy(method.detector.classify_features(known).numpy(), targets)
        draws = np.zeros((0, len(others), 3))
        if repeats:
            draws = bootstrap_metrics(id_scores, [*ood_scores.values()], repeats, seed)
        mean_draws.append(draws.mean(axis=1))
        n_id, column = len(id_scores), []
        for (name, scores), ends in zip(ood_scores.items(), draws.transpose(1, 0, 2), strict=True):
            metrics = ood_metrics(id_scores, scores)
            column.append(Row(name, method.name, method.score, metrics, right, n_id, len(scores), _intervals(ends)))
        columns.append(column)
        mean = OODMetrics(*np.mean([row.metrics for row in column], axis=0).tolist())
        n_ood = sum(row.n_ood for row in column)
        averages.append(Row(AVERAGE, method.name, method.score, mean, right, n_id, n_ood, _intervals(mean_draws[-1])))
    if repeats and len(methods) > 1:
        ends = _intervals(mean_draws[0] - mean_draws[-1])
        for name, here, there in zip(OODMetrics._fields, averages[0].metrics, averages[-1].metrics, strict=True):
            lead[name] = (here - there, *ends[name])
    rows = [row for of_one_set in zip(*columns, strict=True) for row in of_one_set]
    return Evaluation(rows, averages, known_scores, other_scores, lead)


def _scores(method: Method, features: Tensor) -> Floats:
    return method.detector.score_features(features, method.score).double().numpy()


def _intervals(draws: Floats) -> dict[str, tuple[float, float]]:
    if not len(draws):
        return {}
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return {name: (float(low[i]), float(high[i])) for i, name in enumerate(OODMetrics._fields)}
