"""A region in the place of a negative text."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from lsn_core.prompts.regions import region_without


def at(degrees: float) -> torch.Tensor:
    return torch.tensor([math.cos(math.radians(degrees)), math.sin(math.radians(degrees)), 0.0])


def test_in_a_plane_it_lies_half_as_far_behind_the_anchor_as_that_is_from_the_text() -> None:
    found = region_without(at(40), torch.stack([at(0), at(100)]))
    torch.testing.assert_close(found, torch.stack([at(60), at(10)]))


def test_it_is_nearer_to_the_anchor_than_to_the_text_and_of_unit_length() -> None:
    torch.manual_seed(0)
    anchor, texts = F.normalize(torch.randn(64), dim=0), F.normalize(torch.randn(4, 5, 64), dim=-1)
    found = region_without(anchor, texts)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(4, 5))
    assert (found @ anchor > (found * texts).sum(dim=-1)).all()
    torch.testing.assert_close(region_without(anchor, anchor[None]), anchor[None], atol=1e-3, rtol=0)
