"""Transformer blocks whose weights never change, laid out once for the products that a pass through them takes.

On a CPU products in fp32 are oneDNN's: PyTorch's own come from MKL, which takes two to three times as long on
processors of AMD and as long elsewhere. A backward pass needs gradients of activations alone, as another such product
with weights that were transposed once. In bfloat16 the weights of products are rounded once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor

from lsn_core.backbones.backbone import Backbone
from lsn_core.backbones.blocks import split_heads

_kept: WeakKeyDictionary[Backbone, dict[bool, list[FrozenBlock]]] = WeakKeyDictionary()


def frozen_blocks(backbone: Backbone, blocks: Sequence[Any], half: bool = False) -> list[FrozenBlock]:
    """These blocks of a backbone's text tower, each a standard one, made once for the backbone.

    Args:
        half: whether the weights of products are in bfloat16; norms and biases of norms stay as they are.
    """
    made = _kept.setdefault(backbone, {})
    if half not in made:
        made[half] = [FrozenBlock(block, half) for block in blocks]
    return made[half]


class FrozenLinear:
    """x W^T + b with frozen W and b, differentiable in x.

    Args:
        weight: shape (out, in).
        bias: shape (out,), or None.
        half: whether to round them to bfloat16, for use under autocast.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, half: bool = False) -> None:
        weight, bias = weight.detach(), None if bias is None else bias.detach()
        self._weight = weight.bfloat16() if half else weight
        self._bias = bias.bfloat16() if half and bias is not None else bias
        usable = weight.device.type == "cpu" and self._weight.dtype == torch.float32 and has_onednn()
        self._transposed = weight.t().contiguous() if usable else None

    def __call__(self, x: Tensor) -> Tensor:
        """Shape (..., in) -> (..., out)."""
        if self._transposed is None or x.dtype != torch.float32:
            return F.linear(x, self._weight, self._bias)
        found: Tensor = _OneDnnLinear.apply(x, self._weight, self._transposed, self._bias)
        return found


class _OneDnnLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, transposed: Tensor, bias: Tensor | None) -> Tensor:
        ctx.transposed = transposed
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        return _product(gradient, ctx.transposed, None), None, None, None


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    found: Tensor = torch.ops.mkldnn._linear_pointwise(x.contiguous(), weight, bias, "none", [], "")
    return found


def has_onednn() -> bool:
    """Whether this PyTorch has oneDNN's product."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class FrozenBlock:
    """A standard block of open_clip's (`blocks.is_standard`) in parts.

    Attributes:
        qkv, q, kv: products for queries, keys and values, (..., W) -> (..., 3 W), (..., W) and (..., 2 W).
    """

    def __init__(self, block: Any, half: bool = False) -> None:
        self._block = block
        attention, width = block.attn, block.attn.embed_dim
        weight, bias = attention.in_proj_weight, attention.in_proj_bias

        def rows(first: int, last: int) -> FrozenLinear:
            part = slice(first * width, last * width)
            return FrozenLinear(weight[part], None if bias is None else bias[part], half)

        self.qkv, self.q, self.kv = rows(0, 3), rows(0, 1), rows(1, 3)
        self._out, self._fc, self._proj = (
            FrozenLinear(linear.weight, linear.bias, half)
            for linear in (attention.out_proj, block.mlp.c_fc, block.mlp.c_proj)
        )

    def norm(self, x: Tensor) -> Tensor:
        """What attention starts from: (..., W) -> (..., W)."""
        normed: Tensor = self._block.ln_1(x)
        return normed

    def heads(self, x: Tensor, parts: int) -> Sequence[Tensor]:
        """(B, n, parts * W) -> that many of (B, heads, n, W / heads)."""
        return split_heads(self._block, x, parts)

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """The rest of the block behind its attention; acts on each position alone: two of (..., W) -> (..., W)."""
        block = self._block
        x = x + block.ls_1(self._out(attended))
        return x + block.ls_2(self._proj(block.mlp.gelu(self._fc(block.ln_2(x)))))
