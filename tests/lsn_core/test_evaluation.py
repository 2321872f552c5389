"""Tests of evaluations: the command's numbers, averages, intervals and leads against plain ways to compute them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lsn_core import Detector, UserError
from lsn_core.evaluation import Method, class_targets, evaluate
from lsn_core.metrics import OODMetrics, bootstrap_metrics, ood_metrics

CLASSES = ("cat", "dog", "zebra")


@pytest.fixture(scope="module")
def methods() -> list[Method]:
    """A detector with prompts drawn at random and its MCM; of a backbone, features need temperature and bias only."""
    backbone = SimpleNamespace(temperature=0.01, bias=None)
    positive, negative = _unit(3, seed=1), torch.stack([_unit(3, seed=2), _unit(3, seed=3)])
    detector = Detector(backbone, CLASSES, positive, negative)  # type: ignore[arg-type]
    return [Method("ours", detector, "lsn"), Method("MCM", detector, "mcm")]


def _unit(rows: int, seed: int) -> torch.Tensor:
    made = torch.randn(rows, 8, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(made, dim=1)


def test_rows_are_the_metrics_of_each_set_and_averages_their_means(methods: list[Method]) -> None:
    known, others = _unit(30, 4), {"a": _unit(12, 5), "b": _unit(25, 6)}
    targets = [0, 1, 2] * 10
    found = evaluate(methods, known, targets, others)
    assert [(row.ood, row.method, row.n_id, row.n_ood) for row in found.rows] == [
        ("a", "ours", 30, 12),
        ("a", "MCM", 30, 12),
        ("b", "ours", 30, 25),
        ("b", "MCM", 30, 25),
    ]
    detector = methods[0].detector
    for row in found.rows:
        plain = ood_metrics(
            detector.score_features(known, row.score), detector.score_features(others[row.ood], row.score)
        )
        assert row.metrics == plain and row.intervals == {}
        assert row.id_accuracy == np.mean(detector.classify_features(known).numpy() == targets)
        assert found.others[row.ood][row.method].shape == (row.n_ood,)
    for average, method in zip(found.averages, methods, strict=True):
        of_method = [row.metrics for row in found.rows if row.method == method.name]
        assert average.metrics == pytest.approx(np.mean(of_method, axis=0))
        assert average.n_ood == 37
    assert evaluate(methods, known, None, others).rows[0].id_accuracy is None


def test_intervals_are_those_of_a_plain_bootstrap_and_a_lead_is_paired(methods: list[Method]) -> None:
    rng = np.random.default_rng(0)
    known, other = rng.normal(1, 1, 40).round(1), rng.normal(0, 1, 30).round(1)  # rounded: many ties
    draws = bootstrap_metrics(known, [other, other[:9]], repeats=50, seed=3)
    first, second = np.random.default_rng([3, 0]), np.random.default_rng([3, 1])
    for draw in draws[:, 0]:
        plain = ood_metrics(rng_draw(first, known), rng_draw(second, other))
        assert draw == pytest.approx(plain, abs=1e-12)
    assert bootstrap_metrics(known, [other, other[:9]], repeats=50, seed=3) == pytest.approx(draws)
    assert not np.allclose(bootstrap_metrics(known, [other], repeats=50, seed=4), draws[:, :1])

    features, others = _unit(60, 7), {"x": _unit(50, 8)}
    found = evaluate(methods, features, None, others, repeats=300)
    for row in found.rows:
        for name, value in row.metrics.as_dict().items():
            low, high = row.intervals[name]
            assert low <= value <= high and (low < high or value in (0, 1))
    lead, low, high = found.lead["auroc"]
    assert lead == pytest.approx(found.averages[0].metrics.auroc - found.averages[1].metrics.auroc)
    assert low <= lead <= high
    same = evaluate([methods[0], Method("again", methods[0].detector, "lsn")], features, None, others, repeats=300)
    assert same.lead["auroc"] == (0, 0, 0)  # unpaired draws would differ


def rng_draw(random: np.random.Generator, scores: np.ndarray) -> np.ndarray:
    return scores[random.integers(len(scores), size=len(scores))]


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    # Normal scores one apart: the true AUROC is Phi(1 / sqrt(2)) = 0.7602.
    rng, held = np.random.default_rng(5), 0
    for _ in range(200):
        draws = bootstrap_metrics(rng.normal(1, 1, 60), [rng.normal(0, 1, 60)], repeats=200)
        low, high = np.quantile(draws[:, 0, OODMetrics._fields.index("auroc")], [0.025, 0.975])
        held += low <= 0.7602 <= high
    assert 175 <= held <= 199


def test_classes_are_matched_by_name_and_unknown_ones_refused(methods: list[Method]) -> None:
    detector = methods[0].detector
    assert class_targets(["Zebra", "cat"], detector, "x") == [2, 0]
    with pytest.raises(UserError, match=r"my set has images of 2 classes .* \(church, gas pump\)"):
        class_targets(["cat", "gas pump", "church"], detector, "my set")
    with pytest.raises(UserError, match="at least one set"):
        evaluate(methods, _unit(3, 1), None, {})
