"""Products with frozen weights: those of PyTorch, and their gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from lsn_core.backbones.backbone import Backbone
from lsn_core.backbones.blocks import finish, project
from lsn_core.backbones.frozen_blocks import FrozenLinear, frozen_blocks, has_onednn


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_this_pytorch_has_the_product_that_is_used() -> None:
    assert has_onednn()


@pytest.mark.parametrize("shape", [(5, 24), (2, 3, 24), (1, 24), (0, 24)], ids=str)
@pytest.mark.parametrize("biased", [True, False])
def test_a_product_and_its_gradient(shape: tuple[int, ...], biased: bool) -> None:
    weight, bias = drawn(40, 24), drawn(40) if biased else None
    found, wanted = drawn(*shape).requires_grad_(), drawn(*shape).requires_grad_()
    ours, theirs = FrozenLinear(weight, bias)(found), F.linear(wanted, weight, bias)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    weights = drawn(*theirs.shape)
    (ours * weights).sum().backward()
    (theirs * weights).sum().backward()
    torch.testing.assert_close(found.grad, wanted.grad, rtol=1e-5, atol=1e-5)


def test_views_are_multiplied_as_what_they_show() -> None:
    x, weight = drawn(24, 7), drawn(40, 24)
    torch.testing.assert_close(FrozenLinear(weight, None)(x.T), F.linear(x.T, weight), rtol=1e-5, atol=1e-5)


def test_in_double_precision_it_is_pytorchs() -> None:
    x, weight = drawn(3, 24).double(), drawn(40, 24).double()
    assert torch.equal(FrozenLinear(weight, None)(x), F.linear(x, weight))


def test_a_block_in_parts_is_the_block(tiny_backbone: Backbone) -> None:
    blocks = list(tiny_backbone.text_tower.transformer.resblocks)
    parts = frozen_blocks(tiny_backbone, blocks)
    assert (
        frozen_blocks(tiny_backbone, blocks) is parts and frozen_blocks(tiny_backbone, blocks, half=True) is not parts
    )
    x, attended = (drawn(4, n, 64).to(tiny_backbone.device) for n in (6, 6))
    for block, part in zip(blocks, parts, strict=True):
        normed = part.norm(x)
        torch.testing.assert_close(part.qkv(normed), project(block, normed), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(part.q(normed), project(block, normed, last=1), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(part.kv(normed), project(block, normed, first=1), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(part.finish(x, attended), finish(block, x, attended), rtol=1e-4, atol=1e-5)
