"""The objectives against loops over the paper's equations, and against values worked out by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from reference import lsn as literal

from lsn_core.losses import negative_loss, orthogonality, positive_loss, set_orthogonality

N, K, C, D = 5, 3, 4, 6


@pytest.fixture
def case() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = F.normalize(torch.randn(N, D, generator=generator, dtype=torch.double), dim=-1)
    text = F.normalize(torch.randn(K, C, D, generator=generator, dtype=torch.double), dim=-1)
    return images, torch.tensor([0, 3, 1, 1, 2]), text


@pytest.mark.parametrize("loss_on", ["logits", "probabilities"])
def test_losses_and_gradients_equal_the_equations(case, loss_on: str) -> None:
    images, labels, text = case
    ours, theirs = text.clone().requires_grad_(), text.clone().requires_grad_()
    cosines = torch.einsum("nd,kcd->nkc", images, ours)
    a = negative_loss(cosines, labels, 0.05, loss_on) + positive_loss(cosines[:, :1], labels, 0.01, loss_on)
    b = literal.negative_loss(images, labels, theirs, 0.05, loss_on) + literal.positive_loss(
        images, labels, theirs[0], 0.01, loss_on
    )
    a.backward()
    b.backward()
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("reg", ["sum_abs", "mean_signed"])
def test_orthogonality_and_gradient_equal_the_equations(case, reg: str) -> None:
    ours, theirs = case[2].clone().requires_grad_(), case[2].clone().requires_grad_()
    a, b = orthogonality(ours, reg), literal.orthogonality(list(theirs), reg)
    a.backward()
    b.backward()
    torch.testing.assert_close(a, b)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("reg", ["sum_abs", "mean_signed"])
def test_a_set_in_turn_gets_the_gradient_it_has_beside_the_others(case, reg: str) -> None:
    together, alone = case[2].clone().requires_grad_(), case[2][1].clone().requires_grad_()
    orthogonality(together, reg).backward()
    set_orthogonality(alone, case[2][[0, 2]], reg).backward()
    share = 1 if reg == "sum_abs" else K  # the signed form is a mean over sets
    torch.testing.assert_close(alone.grad, together.grad[1] * share)


def test_identical_and_orthogonal_prompts_by_hand() -> None:
    same = torch.eye(C)[None].expand(K, -1, -1)
    assert float(orthogonality(same)) == C * 3  # three pairs of cosine 1 for each class
    assert float(orthogonality(same, "mean_signed")) == 1.0
    apart = torch.stack([torch.eye(C).roll(k, 1) for k in range(K)])
    assert float(orthogonality(apart)) == 0.0
    assert float(orthogonality(-same[:1])) == 0.0  # one set has no pair


def test_negative_loss_falls_when_the_own_class_matches_least() -> None:
    cosines = torch.tensor([[[0.1, 0.9, 0.9]]])
    assert negative_loss(cosines, torch.tensor([0])) < 1e-4 < negative_loss(cosines, torch.tensor([1]))


def test_images_with_prompts_of_their_own_are_averaged(case) -> None:
    text = case[2]
    two = torch.stack([text, text.flip(0).roll(1, 1)])
    for reg in ("sum_abs", "mean_signed"):
        expected = (orthogonality(two[0], reg) + orthogonality(two[1], reg)) / 2
        torch.testing.assert_close(orthogonality(two, reg), expected)
