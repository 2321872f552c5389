"""BLIP's text tower as it is prompted."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lsn_core.backbones.blip_model import BlipTextTower
from lsn_core.backbones.framing import Framing


class BlipText:
    """BLIP's BERT, whose feature is read at [CLS]; padding is masked, so what stands behind the last [SEP] is cut off.

    It has the methods of `text_towers.TextKind`.
    """

    refusal: str | None = None

    @classmethod
    def fits(cls, module: Any) -> bool:
        """That tower alone."""
        return isinstance(module, BlipTextTower)

    def __init__(self, module: BlipTextTower, framing: Framing) -> None:
        self.module = module

    @property
    def width(self) -> int:
        return self.module.width

    @property
    def layers(self) -> int:
        return int(self.module.config.num_hidden_layers)

    def embed(self, ids: Tensor) -> Tensor:
        return self.module.embed(ids)

    def find_eot(self, ids: Tensor) -> Tensor:
        return self.module.find_end(ids)

    def find_padding(self, ids: Tensor) -> Tensor:
        return torch.zeros_like(ids, dtype=torch.bool)  # the mask goes by lengths, whatever the words are

    def positions(self, tokens: int) -> int:
        return tokens

    def encode(self, x: Tensor, eot: Tensor, padding: Tensor | None = None) -> Tensor:
        return self.module.encode(x, eot)
