"""Detection metrics: in-distribution (ID) is the positive class, and a higher score means more in-distribution."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from lsn_core.errors import UserError

_BOOTSTRAP_CELLS = 2_000_000  # draws x images held at a time

Scores = np.ndarray | torch.Tensor | Sequence[float]


class OODMetrics(NamedTuple):
    """How well scores tell ID from OOD; each in [0, 1].

    Attributes:
        auroc: area under the ROC curve; higher is better, 0.5 is chance.
        fpr95: share of OOD scored at or above the threshold that keeps 95 % of ID; lower is better.
        aupr: average precision with ID as the positive class; higher is better, the share of ID is chance.
    """

    auroc: float
    fpr95: float
    aupr: float

    def as_dict(self) -> dict[str, float]:
        """The three values by name, ready for JSON."""
        return self._asdict()


def ood_metrics(id_scores: Scores, ood_scores: Scores) -> OODMetrics:
    """AUROC, FPR95 and AUPR of scores of ID and of OOD images.

    Args:
        id_scores: scores of in-distribution images, shape (N,), finite.
        ood_scores: scores of out-of-distribution images, shape (M,), finite.

    Raises:
        UserError: a side is empty, not one-dimensional, or holds NaN or infinite values.
    """
    return OODMetrics(auroc(id_scores, ood_scores), fpr_at_tpr(id_scores, ood_scores), aupr(id_scores, ood_scores))


def auroc(id_scores: Scores, ood_scores: Scores) -> float:
    """Probability that a random ID image outscores a random OOD image, ties counted one half.

    Shapes (N,) and (M,); returns a value in [0, 1]. Raises UserError as `ood_metrics` does.
    """
    inside, outside = _both(id_scores, ood_scores)
    outside.sort()
    below = np.searchsorted(outside, inside, side="left")
    not_above = np.searchsorted(outside, inside, side="right")
    return int((below + not_above).sum()) / (2 * inside.size * outside.size)


def threshold_at_tpr(id_scores: Scores, tpr: float = 0.95) -> float:
    """The largest threshold t such that a share of at least `tpr` of the ID scores is at or above t.

    Args:
        id_scores: shape (N,), finite.
        tpr: wanted true positive rate, in (0, 1].

    Raises:
        UserError: `tpr` is out of range, or the scores are empty or not finite.
    """
    if not 0 < tpr <= 1:
        raise UserError(f"The true positive rate must be above 0 and at most 1, not {tpr!r}.")
    inside = np.sort(_scores(id_scores, "in-distribution (ID)"))[::-1]
    keep = min(max(int(np.ceil(tpr * inside.size)), 1), inside.size)
    # tpr * N may be rounded across a whole number (0.07 * 100 = 7.000000000000001); k / N is rounded to the nearest
    # float, as the literal tpr was, so comparing those two is exact.
    while keep > 1 and (keep - 1) / inside.size >= tpr:
        keep -= 1
    while keep / inside.size < tpr:
        keep += 1
    return float(inside[keep - 1])


def fpr_at_tpr(id_scores: Scores, ood_scores: Scores, tpr: float = 0.95) -> float:
    """Share of OOD scored at or above `threshold_at_tpr`; lower is better.

    Shapes (N,) and (M,), `tpr` in (0, 1]; returns a value in [0, 1]. Raises UserError as `ood_metrics` does.
    """
    inside, outside = _both(id_scores, ood_scores)
    return float(np.mean(outside >= threshold_at_tpr(inside, tpr)))


def aupr(id_scores: Scores, ood_scores: Scores) -> float:
    """Average precision with ID as the positive class: sum over thresholds of (recall gained) x precision.

    Shapes (N,) and (M,); returns a value in (0, 1]. Equal scores make one threshold. Raises UserError as `ood_metrics`
    does.
    """
    true_positives, false_positives, _ = _counts(*_both(id_scores, ood_scores))
    gained = np.diff(true_positives, prepend=0) / true_positives[-1]
    return float(np.sum(gained * true_positives / (true_positives + false_positives)))


def roc_curve(id_scores: Scores, ood_scores: Scores) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The ROC curve, one point for each distinct score.

    Args:
        id_scores: shape (N,), finite.
        ood_scores: shape (M,), finite.

    Returns:
        False positive rates, true positive rates and thresholds, each of shape (P,). Thresholds fall from +inf, where
        both rates are 0, to the lowest score, where both are 1; an image is positive at or above the threshold.

    Raises:
        UserError: as `ood_metrics` does.
    """
    true_positives, false_positives, thresholds = _counts(*_both(id_scores, ood_scores))
    fpr = np.concatenate(([0.0], false_positives / false_positives[-1]))
    tpr = np.concatenate(([0.0], true_positives / true_positives[-1]))
    return fpr, tpr, np.concatenate(([np.inf], thresholds))


def bootstrap_metrics(id_scores: Scores, ood_sets: Sequence[Scores], repeats: int = 1000, seed: int = 0) -> np.ndarray:
    """AUROC, FPR95 and AUPR of images drawn again and again, with replacement, from those there are (Efron, 1979).

    All OOD sets meet the same draw of ID images, and scores of the same shapes the same draws, so that differences
    between methods on the same images are paired.

    Args:
        id_scores: shape (N,), finite.
        ood_sets: scores of S >= 1 out-of-distribution sets, each of shape (M,), finite.
        repeats: number of draws B, at least 1.
        seed: at least 0.

    Returns:
        Shape (B, S, 3), in the order of `OODMetrics`; each in [0, 1].

    Raises:
        UserError: as `ood_metrics` does.
    """
    sides = [_both(id_scores, scores) for scores in ood_sets]
    random = [np.random.default_rng([seed, side]) for side in range(1 + len(sides))]
    draws = np.empty((repeats, len(sides), 3))
    step = max(1, _BOOTSTRAP_CELLS // max((inside.size + outside.size for inside, outside in sides), default=1))
    for start in range(0, repeats, step):
        rows = min(step, repeats - start)
        drawn = _draw(random[0], rows, sides[0][0].size)
        for side, (inside, outside) in enumerate(sides):
            counts = _draw(random[1 + side], rows, outside.size)
            draws[start : start + rows, side] = _weighted_metrics(inside, outside, drawn, counts)
    return draws


def accuracy(predicted: Scores, labels: Scores) -> float:
    """Share of predictions that equal the label.

    Args:
        predicted: class indices, shape (N,).
        labels: class indices, shape (N,).

    Raises:
        UserError: the lengths differ, or there is nothing to compare.
    """
    left, right = _scores(predicted, "predicted label"), _scores(labels, "true label")
    if left.size != right.size:
        raise UserError(f"There are {left.size} predictions for {right.size} labels; give one for each.")
    return float(np.mean(left == right))


def _both(id_scores: Scores, ood_scores: Scores) -> tuple[np.ndarray, np.ndarray]:
    return _scores(id_scores, "in-distribution (ID)"), _scores(ood_scores, "out-of-distribution (OOD)")


def _scores(scores: Scores, side: str) -> np.ndarray:
    if isinstance(scores, torch.Tensor):
        scores = scores.detach().cpu().double().numpy()
    values = np.array(scores, dtype=np.float64)  # a copy: callers sort in place
    if values.ndim != 1:
        raise UserError(f"The {side} values have shape {values.shape}; give one number for each image, shape (N,).")
    if values.size == 0:
        raise UserError(f"There are no {side} values; at least one image is needed on each side.")
    bad = int((~np.isfinite(values)).sum())
    if bad:
        raise UserError(f"{bad} of {values.size} {side} values are NaN or infinite; leave those images out.")
    return values


def _counts(inside: np.ndarray, outside: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    scores = np.concatenate((inside, outside))
    positive = np.concatenate((np.ones(inside.size, np.int64), np.zeros(outside.size, np.int64)))
    order = np.argsort(-scores, kind="stable")
    scores, positive = scores[order], positive[order]
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))  # the last index of each run of equal scores
    true_positives = np.cumsum(positive)[last]
    return true_positives, last + 1 - true_positives, scores[last]


def _draw(random: np.random.Generator, rows: int, size: int) -> np.ndarray:
    """How often each of `size` images is drawn when `size` are drawn with replacement, shape (rows, size)."""
    chosen = random.integers(size, size=(rows, size)) + size * np.arange(rows)[:, None]
    return np.bincount(chosen.ravel(), minlength=rows * size).reshape(rows, size)


def _weighted_metrics(
    inside: np.ndarray, outside: np.ndarray, drawn_in: np.ndarray, drawn_out: np.ndarray
) -> np.ndarray:
    """The three metrics where image i counts drawn[b, i] times, shape (B, 3)."""
    levels, level_of_score = np.unique(-np.concatenate((inside, outside)), return_inverse=True)  # highest score first
    order = np.argsort(level_of_score, kind="stable")
    starts = np.searchsorted(level_of_score[order], np.arange(levels.size))
    weights_in = np.concatenate((drawn_in, np.zeros_like(drawn_out)), axis=1)[:, order]
    weights_out = np.concatenate((np.zeros_like(drawn_in), drawn_out), axis=1)[:, order]
    gained = np.add.reduceat(weights_in, starts, axis=1)  # (B, levels)
    passed = np.add.reduceat(weights_out, starts, axis=1)
    true_positives, false_positives = gained.cumsum(axis=1), passed.cumsum(axis=1)
    below = outside.size - false_positives + passed / 2
    area = (gained * below).sum(axis=1) / (inside.size * outside.size)
    first = np.argmax(true_positives / inside.size >= 0.95, axis=1)
    fpr = false_positives[np.arange(len(first)), first] / outside.size
    precision = true_positives / np.maximum(true_positives + false_positives, 1)
    return np.stack((area, fpr, (gained * precision).sum(axis=1) / inside.size), axis=1)
