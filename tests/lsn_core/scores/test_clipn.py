"""CLIPN's rules against its paper's formulas, written out in loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lsn_core.scores.clipn import agreeing_to_differ, competing_to_win, denial

TAU = 0.05


def test_the_two_rules() -> None:
    rng = np.random.default_rng(0)
    positive, negative = rng.uniform(-0.2, 0.4, (6, 4)), rng.uniform(-0.2, 0.4, (6, 3, 4))  # N=6, K=3, C=4
    p, n = torch.tensor(positive), torch.tensor(negative)
    for i in range(6):
        no = []
        for c in range(4):
            yes = math.exp(positive[i, c] / TAU)
            shares = [math.exp(negative[i, k, c] / TAU) for k in range(3)]
            no.append(sum(share / (share + yes) for share in shares) / 3)
        assert denial(p, n, TAU)[i].tolist() == pytest.approx(no)
        best = max(range(4), key=lambda c: positive[i, c])
        assert competing_to_win(p, n, TAU)[i].item() == pytest.approx(1 - no[best])
        powers = [math.exp(value / TAU) for value in positive[i]]
        unknown = 1 - sum((1 - no[c]) * powers[c] / sum(powers) for c in range(4))  # CLIPN's class C + 1
        assert agreeing_to_differ(p, n, TAU)[i].item() == pytest.approx(1 - unknown)
