"""What a tokenizer puts around the tokens of a text, whichever tokenizer it is."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor


class Framing:
    """What a tokenizer puts around the tokens of a text: start tokens, an end token, padding; found by asking it.

    Args:
        tokenize: texts to ids, shape (N, context_length), as the model reads them.
    """

    def __init__(self, tokenize: Callable[[list[str]], Tensor]) -> None:
        self._tokenize = tokenize

    @cached_property
    def empty(self) -> Tensor:
        """Ids of the empty text, shape (context_length,): what stands where a text is over."""
        return self._tokenize([""])[0]

    @cached_property
    def start(self) -> int:
        """How many tokens stand before every text: 1 for CLIP's, 0 where there is no start token."""
        rows = torch.cat([self.empty[None], self._tokenize(["a", "7", "dog"])])
        return int((rows == self.empty).all(dim=0).long().cumprod(dim=0).sum())

    @cached_property
    def tail(self) -> int:
        """How many tokens stand behind the padding at the last positions of every text; 0 for nearly all tokenizers."""
        behind = self.empty[self.start + 1 :]
        if not len(behind):
            return 0
        return len(behind) - int((behind == behind[0]).long().cumprod(dim=0).sum())

    def find_end(self, tokens: Tensor) -> Tensor:
        """Position of each text's last token that is no padding: (N, n) ids -> (N,)."""
        other = tokens != self.empty[: tokens.shape[1]].to(tokens.device)
        last = tokens.shape[1] - 1 - other.flip(1).int().argmax(dim=1)
        return torch.where(other.any(dim=1), last, min(self.start, tokens.shape[1] - 1))
