"""Requests that wait for the image encoder at the same time go through it together."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor

MOST = 32
"""Photos in one forward pass."""


class _Waiting:
    def __init__(self, crop: Tensor) -> None:
        self.crop = crop
        self.feature: Tensor | None = None
        self.error: Exception | None = None


class JoinedPasses:
    """A function of many pictures for callers who have one each. Whoever comes alone waits for nobody.

    While one pass runs, others queue up; whoever comes to run the next takes along all who wait.

    Args:
        encode: crops (N, H, W, 3) -> features (N, D).
        lock: held during a pass.
    """

    def __init__(self, encode: Callable[[Tensor], Tensor], lock: threading.Lock) -> None:
        self._encode, self._lock = encode, lock
        self._line: deque[_Waiting] = deque()

    def __call__(self, crop: Tensor) -> Tensor:
        """Feature (D,) of one picture's crop (H, W, 3). Raises what `encode` raises."""
        mine = _Waiting(crop)
        self._line.append(mine)
        while mine.feature is None and mine.error is None:
            with self._lock:
                if mine.feature is None and mine.error is None:
                    self._pass()
        if mine.error is not None:
            raise mine.error
        assert mine.feature is not None
        return mine.feature

    def _pass(self) -> None:
        batch = [self._line.popleft() for _ in range(min(MOST, len(self._line)))]
        try:
            features = self._encode(torch.stack([one.crop for one in batch]))
            for one, feature in zip(batch, features, strict=True):
                one.feature = feature.clone()
        except Exception as error:
            for one in batch:
                one.error = error
