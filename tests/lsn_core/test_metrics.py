"""Tests of the detection metrics against scikit-learn, exact fractions and hand-made cases."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from pytorch_ood.metrics import functional
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.metrics import roc_curve as sklearn_roc_curve

from lsn_core.errors import UserError
from lsn_core.metrics import accuracy, aupr, auroc, fpr_at_tpr, ood_metrics, roc_curve, threshold_at_tpr

RNG = np.random.default_rng(3)
CASES = {
    "separate": (RNG.normal(3, 1, 400), RNG.normal(-3, 1, 300)),
    "overlapping": (RNG.normal(0.3, 1, 1000), RNG.normal(0, 2, 77)),
    "wrong way round": (RNG.normal(-1, 1, 50), RNG.normal(1, 1, 60)),
    "tied": (RNG.integers(0, 4, 500).astype(float), RNG.integers(0, 4, 333).astype(float)),
    "near 1/C": (0.1 + RNG.integers(0, 3, 90) * 1e-15, 0.1 + RNG.integers(0, 3, 40) * 1e-15),
    "all equal": (np.ones(9), np.ones(4)),
    "one each": (np.array([0.2]), np.array([0.1])),
}


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray]:
    return CASES[request.param]


def test_areas_agree_with_scikit_learn(case: tuple[np.ndarray, np.ndarray]) -> None:
    truth = np.repeat([1, 0], [len(side) for side in case])
    assert auroc(*case) == pytest.approx(roc_auc_score(truth, np.concatenate(case)), abs=1e-9)
    assert aupr(*case) == pytest.approx(average_precision_score(truth, np.concatenate(case)), abs=1e-9)


def test_roc_curve_agrees_with_scikit_learn(case: tuple[np.ndarray, np.ndarray]) -> None:
    truth = np.repeat([1, 0], [len(side) for side in case])
    expected = sklearn_roc_curve(truth, np.concatenate(case), drop_intermediate=False)
    for found, wanted in zip(roc_curve(*case), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12)


def test_metrics_agree_with_pytorch_ood(case: tuple[np.ndarray, np.ndarray]) -> None:
    inside, outside = (torch.from_numpy(side) for side in case)
    scores = torch.cat([inside, outside])
    is_id = torch.cat([torch.ones(len(inside)), torch.zeros(len(outside))])
    # pytorch-ood's scores are higher for OOD, and a label below 0 marks OOD, its positive class.
    assert auroc(*case) == pytest.approx(float(functional.auroc(-scores, is_id - 1)), abs=1e-6)
    # Its FPR95 keeps 95 % of OOD; with the sides changed, it keeps 95 % of ID as ours does.
    assert fpr_at_tpr(*case) == pytest.approx(float(functional.fpr_at_tpr(scores, -is_id, 0.95)), abs=1e-6)


@pytest.mark.parametrize("tpr", ["0.01", "0.07", "0.5", "0.8", "0.95", "0.99", "1"])
def test_fpr_matches_its_definition_in_exact_fractions(case: tuple[np.ndarray, np.ndarray], tpr: str) -> None:
    inside, outside = case
    keeps = [t for t in set(inside) if Fraction(int((inside >= t).sum()), len(inside)) >= Fraction(tpr)]
    assert threshold_at_tpr(inside, float(tpr)) == max(keeps)
    assert fpr_at_tpr(inside, outside, float(tpr)) == float((outside >= max(keeps)).mean())


@pytest.mark.parametrize("tpr", ["0.05", "0.07", "0.14", "0.28", "0.55", "0.57", "0.9", "0.95"])
def test_threshold_is_not_moved_by_rounding(tpr: str) -> None:
    for n in range(1, 400):  # 0.07 * 100 is 7.000000000000001 in floating point
        kept = -(-Fraction(tpr) * n // 1)
        assert threshold_at_tpr(np.arange(n), float(tpr)) == n - kept


def test_hand_made_case() -> None:
    inside, outside = [0.9, 0.8, 0.4], [0.8, 0.1]
    result = ood_metrics(inside, outside)
    assert result.auroc == (1 + 1 + 0.5 + 1 + 0 + 1) / 6
    assert result.fpr95 == 0.5  # all three ID images are needed, so the threshold is 0.4
    assert result.aupr == pytest.approx(1 / 3 * 1 + 1 / 3 * 2 / 3 + 1 / 3 * 3 / 4)
    assert result.as_dict() == {"auroc": result.auroc, "fpr95": result.fpr95, "aupr": result.aupr}


def test_higher_means_more_in_distribution() -> None:
    assert ood_metrics([2, 3], [0, 1]).as_dict() == {"auroc": 1.0, "fpr95": 0.0, "aupr": 1.0}
    assert ood_metrics([0, 1], [2, 3])[:2] == (0.0, 1.0)


def test_torch_tensors_and_no_change_of_the_input() -> None:
    inside, outside = (torch.from_numpy(side.copy()).float().requires_grad_() for side in CASES["overlapping"])
    before = outside.detach().clone()
    truth = np.repeat([1, 0], [len(inside), len(outside)])
    scores = torch.cat((inside, outside)).detach().numpy()
    assert auroc(inside, outside) == pytest.approx(roc_auc_score(truth, scores), abs=1e-9)
    assert torch.equal(outside.detach(), before)
    assert auroc(inside.detach().bfloat16(), outside.detach().bfloat16()) == pytest.approx(
        roc_auc_score(truth, torch.from_numpy(scores).bfloat16().float().numpy()), abs=1e-9
    )


@pytest.mark.parametrize("metric", [auroc, aupr, fpr_at_tpr, roc_curve, ood_metrics])
@pytest.mark.parametrize("bad", [[], [0.1, float("nan")], [float("inf")], [[0.1, 0.2]]])
def test_unusable_scores_are_refused_by_side(metric: object, bad: list) -> None:
    with pytest.raises(UserError, match=r"in-distribution \(ID\)"):
        metric(bad, [0.1])
    with pytest.raises(UserError, match=r"out-of-distribution \(OOD\)"):
        metric([0.1], bad)


def test_unusable_rates_are_refused() -> None:
    for tpr in (0, -0.1, 1.01, float("nan")):
        with pytest.raises(UserError, match="true positive rate"):
            fpr_at_tpr([1.0], [0.0], tpr)


def test_accuracy() -> None:
    assert accuracy([0, 1, 2, 2], torch.tensor([0, 1, 1, 2])) == 0.75
    with pytest.raises(UserError, match="3 predictions for 2 labels"):
        accuracy([0, 1, 2], [0, 1])
    with pytest.raises(UserError, match="no predicted label"):
        accuracy([], [])
