"""The frozen text tower run on the positions that matter only; exact, and differentiable in the contexts.

Against 77 tokens for each prompt, one set at a time, this leaves out, without changing the result:

- positions behind the end token, prompt by prompt (attention is causal): classes are grouped by length and the groups
  laid end to end in one tensor, so that every linear layer sees (tokens, W) without padding;
- the start token and a shared context for all classes but one: only their keys and values are needed further on, and
  those of the start token never change;
- in the last block, everything but keys and values at positions other than the end token;
- activations of all classes at once where they would not fit: chunks of classes are recomputed in the backward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lsn_core.backbones.backbone import Backbone
from lsn_core.backbones.blocks import finish, is_standard, project, split_heads
from lsn_core.prompts.learned import NameTokens

DEFAULT_MEMORY_GIB = 3.0
# Floats kept for the backward pass at one position of one block, in units of the width; measured, rounded up.
_KEPT_PER_POSITION = 16

KeyValues = list[tuple[Tensor, Tensor]]  # per block: keys and values, each (S or 1, heads, P, W / heads)


@dataclass(frozen=True)
class _Group:
    """Classes whose prompts are run at one length.

    Attributes:
        classes: indices of the classes, shape (G,).
        name_length: M, tokens behind the context.
        ends: place of the end token in the name tokens, shape (G,); all M - 1 unless lengths are mixed.
    """

    classes: Tensor
    name_length: int
    ends: Tensor

    @property
    def mixed(self) -> bool:
        return bool((self.ends != self.name_length - 1).any())


class TextTower:
    """The text tower of a backbone, for prompts that share what stands before and behind their contexts.

    Args:
        backbone: a promptable one.
        names: name tokens of the C classes.
        memory_gib: how much the activations of one pass may take before classes are run in chunks.
        by_length: group classes by length (fewest operations, for a CPU) or run all at the longest one (fewest kernel
            launches, for a GPU). None chooses by device.
    """

    def __init__(
        self,
        backbone: Backbone,
        names: NameTokens,
        memory_gib: float = DEFAULT_MEMORY_GIB,
        by_length: bool | None = None,
    ) -> None:
        self.backbone = backbone
        self.names = names
        text = backbone.text_tower
        self.blocks: list[Any] = list(text.transformer.resblocks)
        self.positions: Tensor = text.positional_embedding
        self.by_length = backbone.device.type == "cpu" if by_length is None else by_length
        self._memory = memory_gib * 2**30
        # Other block types (open_clip's custom ones) take the plain way.
        self.plain = not all(is_standard(block) for block in self.blocks)

    def encode(self, contexts: Tensor) -> Tensor:
        """Text features of the prompts [SOS, context, name, ".", EOT].

        Args:
            contexts: shape (S, C, L, W), or (S, 1, L, W) for a context shared by all classes.

        Returns:
            Shape (S, C, D), fp32, unit length.
        """
        sets, _, length, _ = contexts.shape
        if self.plain:
            return self.backbone.encode_prompts(*self.names.assemble(contexts)).unflatten(0, (sets, -1))
        shared = contexts.shape[1] == 1
        prefix = self._prefix(contexts[:, 0]) if shared else self._start
        chunks = self._chunks(sets, 0 if shared else length)
        recompute = len(chunks) > 1 and torch.is_grad_enabled() and contexts.requires_grad
        parts = []
        for groups in chunks:
            own = None if shared else [contexts[:, group.classes] for group in groups]
            run = partial(self._suffixes, groups, sets, 1 + length if shared else 1)
            if recompute:
                parts.append(checkpoint(run, own, prefix, use_reentrant=False, preserve_rng_state=False))
            else:
                parts.append(run(own, prefix))
        order = torch.cat([group.classes for groups in chunks for group in groups])
        return torch.cat(parts, dim=1)[:, order.argsort()]

    # -- what is run --------------------------------------------------------------------------------------------------

    @cached_property
    def _start(self) -> KeyValues:
        with torch.no_grad():
            return self._run_prefix(self.names.start[None, None])

    def _prefix(self, context: Tensor) -> KeyValues:
        start = self.names.start.expand(len(context), 1, -1)
        return self._run_prefix(torch.cat([start, context], dim=1))

    def _run_prefix(self, x: Tensor) -> KeyValues:
        """Keys and values of the positions before the classes part; x (S, P, W) without positions."""
        x = x + self.positions[: x.shape[1]]
        found: KeyValues = []
        for block in self.blocks[:-1]:
            q, k, v = split_heads(block, project(block, block.ln_1(x)), 3)
            found.append((k, v))
            out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = finish(block, x, out.transpose(1, 2).flatten(2))
        last = self.blocks[-1]
        k, v = split_heads(last, project(last, last.ln_1(x), first=1), 2)
        return [*found, (k, v)]

    def _suffixes(
        self, groups: Sequence[_Group], sets: int, offset: int, contexts: Sequence[Tensor] | None, prefix: KeyValues
    ) -> Tensor:
        """Features (S, C', D) of the groups' classes, in the groups' order; position `offset` is their first."""
        device = self.positions.device
        rows, shapes, ends, masks, end_masks = [], [], [], [], []
        start = 0
        for place, group in enumerate(groups):
            x = self.names.embeddings[group.classes, : group.name_length].expand(sets, -1, -1, -1)
            group_ends = group.ends
            if contexts is not None:
                x = torch.cat([contexts[place], x], dim=2)  # (S, G, L + M, W)
                group_ends = group_ends + contexts[place].shape[2]
            length = x.shape[2]
            rows.append((x + self.positions[offset : offset + length]).flatten(0, 2))
            shapes.append((sets, len(group.classes), length))
            flat = torch.arange(sets * len(group.classes)).mul(length) + group_ends.repeat(sets)
            ends.append(start + flat)
            start += len(rows[-1])
            masks.append(_causal_mask(length, offset, device))
            end_masks.append(_end_mask(group_ends, length, offset, device) if group.mixed else None)
        x = torch.cat(rows)  # (tokens, W), group by group, then set by set, then class by class
        sizes = [len(part) for part in rows]
        for block, (pk, pv) in zip(self.blocks[:-1], prefix, strict=False):
            attended = []
            for part, shape, mask in zip(project(block, block.ln_1(x)).split(sizes), shapes, masks, strict=True):
                q, k, v = split_heads(block, part.view(shape[0] * shape[1], shape[2], -1), 3)
                k, v = _behind(pk, k, shape), _behind(pv, v, shape)
                out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)  # (S * G, heads, length, W / heads)
                attended.append(out.transpose(1, 2).reshape(part.shape[0], -1))
            x = finish(block, x, torch.cat(attended))
        x = self._last_block(x, torch.cat(ends).to(device), prefix[-1], shapes, sizes, end_masks)
        features = self.backbone.project_text(x)
        parts = features.split([shape[0] * shape[1] for shape in shapes])
        return torch.cat([part.view(*shape[:2], -1) for part, shape in zip(parts, shapes, strict=True)], dim=1)

    def _last_block(
        self,
        x: Tensor,
        ends: Tensor,
        prefix: tuple[Tensor, Tensor],
        shapes: Sequence[tuple[int, int, int]],
        sizes: list[int],
        masks: Sequence[Tensor | None],
    ) -> Tensor:
        """Output of the last block at the end tokens only: (prompts, W)."""
        block = self.blocks[-1]
        normed = block.ln_1(x)
        queries = project(block, normed[ends], last=1)  # (prompts, W)
        counts = [shape[0] * shape[1] for shape in shapes]
        attended = []
        for query, part, shape, mask in zip(
            queries.split(counts), project(block, normed, first=1).split(sizes), shapes, masks, strict=True
        ):
            (q,) = split_heads(block, query[:, None], 1)  # (S * G, heads, 1, W / heads)
            k, v = split_heads(block, part.view(shape[0] * shape[1], shape[2], -1), 2)
            k, v = _behind(prefix[0], k, shape), _behind(prefix[1], v, shape)
            mask = None if mask is None else mask.repeat(shape[0], 1, 1, 1)
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
            attended.append(out.transpose(1, 2).reshape(len(query), -1))
        return finish(block, x[ends], torch.cat(attended))

    # -- what is run together -----------------------------------------------------------------------------------------

    def _chunks(self, sets: int, context: int) -> list[list[_Group]]:
        """Classes in chunks whose activations fit, each sorted into groups of one length."""
        lengths = self.names.lengths
        width = self.positions.shape[-1]
        per_token = 4 * width * len(self.blocks) * _KEPT_PER_POSITION
        order = lengths.argsort(stable=True)
        sorted_lengths = lengths[order] if self.by_length else torch.full_like(lengths, int(lengths.max()))
        costs = ((sorted_lengths + context) * sets * per_token).tolist()
        chunks: list[list[int]] = []
        filled = 0.0
        for place, cost in zip(order.tolist(), costs, strict=True):
            if not chunks or filled + cost > self._memory:
                chunks.append([])
                filled = 0.0
            chunks[-1].append(place)
            filled += cost
        return [self._groups(torch.tensor(chunk)) for chunk in chunks]

    def _groups(self, classes: Tensor) -> list[_Group]:
        lengths = self.names.lengths[classes]
        if not self.by_length:
            return [_Group(classes, int(lengths.max()), lengths - 1)]
        groups = []
        for length in lengths.unique().tolist():
            members = classes[lengths == length]
            groups.append(_Group(members, length, torch.full_like(members, length - 1)))
        return groups


def _behind(prefix: Tensor, own: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Keys or values of the prefix (S or 1, heads, P, d) before those of each class (S * G, heads, n, d)."""
    sets, classes, _ = shape
    wide = prefix[:, None].expand(sets, classes, -1, -1, -1)
    return torch.cat([wide, own.unflatten(0, (sets, classes))], dim=3).flatten(0, 1)


def _causal_mask(length: int, offset: int, device: torch.device) -> Tensor:
    """Which of `offset` + `length` keys each of the last `length` positions sees: (length, offset + length)."""
    return torch.ones(length, offset + length, dtype=torch.bool, device=device).tril(offset)


def _end_mask(ends: Tensor, length: int, offset: int, device: torch.device) -> Tensor:
    """Which keys each end token sees: (G, 1, 1, offset + length)."""
    return (torch.arange(offset + length) <= offset + ends[:, None])[:, None, None].to(device)
