"""The parts of open_clip's standard transformer block, for towers that are run on chosen positions or opened up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn


def is_standard(block: Any) -> bool:
    """Whether the functions below give this block's own results; open_clip has other kinds, too."""
    if type(block) is not ResidualAttentionBlock or not isinstance(block.attn, nn.MultiheadAttention):
        return False
    attention = block.attn
    plain = attention.in_proj_weight is not None and attention.bias_k is None and not attention.add_zero_attn
    return plain and not hasattr(block, "ln_1_kv") and attention.dropout == 0


def project(block: Any, x: Tensor, first: int = 0, last: int = 3) -> Tensor:
    """Parts `first` to `last` of queries, keys and values in one product: (..., W) -> (..., parts * W)."""
    attention = block.attn
    width = attention.embed_dim
    rows = slice(first * width, last * width)
    bias = attention.in_proj_bias
    return F.linear(x, attention.in_proj_weight[rows], None if bias is None else bias[rows])


def split_heads(block: Any, x: Tensor, parts: int) -> Sequence[Tensor]:
    """(B, n, parts * W) -> that many of (B, heads, n, W / heads)."""
    return x.view(*x.shape[:2], parts, block.attn.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)


def finish(block: Any, x: Tensor, attended: Tensor) -> Tensor:
    """The rest of a block behind its attention; acts on each position alone: two of (..., W) -> (..., W)."""
    x = x + block.ls_1(block.attn.out_proj(attended))
    return x + block.ls_2(block.mlp(block.ln_2(x)))


def project_feature(visual: Any, pooled: Tensor) -> Tensor:
    """A ViT's projection to the shared space, which is a matrix, a layer or none: (..., W) -> (..., D)."""
    projection = visual.proj
    if isinstance(projection, nn.Module):
        projected: Tensor = projection(pooled)
        return projected
    return pooled if projection is None else pooled @ projection


def attention_pool_parts(pool: Any, activations: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What CLIP's ResNet pools its last map with: the one query that is read, and keys and values.

    Args:
        activations: shape (N, channels, h, w).

    Returns:
        Each of shape (N, heads, n, channels / heads), n = 1 for the query and 1 + h * w for the others.
    """
    tokens = activations.flatten(2).transpose(1, 2)  # (N, h * w, channels)
    tokens = torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1) + pool.positional_embedding
    parts = (pool.q_proj(tokens[:, :1]), pool.k_proj(tokens), pool.v_proj(tokens))
    q, k, v = (part.unflatten(-1, (pool.num_heads, -1)).transpose(1, 2) for part in parts)
    return q, k, v
