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


@dataclass(frozen=True)
class _Laid:
    """A group's tokens for S prompt sets, laid end to end.

    Attributes:
        tokens: with positions, shape (S * G * length, W), set by set, then class by class.
        sets, classes, length: S, G, and the tokens of one prompt behind the prefix.
        ends: row of each prompt's end token in `tokens`, shape (S * G,).
        mask: which keys each position sees, shape (length, prefix + length).
        end_mask: which keys each end token sees, shape (S * G, 1, 1, prefix + length); None where it sees all.
    """

    tokens: Tensor
    sets: int
    classes: int
    length: int
    ends: Tensor
    mask: Tensor
    end_mask: Tensor | None

    @property
    def prompts(self) -> int:
        return self.sets * self.classes

    def attend(self, block: Any, projected: Tensor, prefix: tuple[Tensor, Tensor]) -> Tensor:
        """Attention of all positions: queries, keys and values (tokens, 3 W) -> (tokens, W)."""
        q, k, v = split_heads(block, projected.view(self.prompts, self.length, -1), 3)
        k, v = self._behind(prefix[0], k), self._behind(prefix[1], v)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask)
        return out.transpose(1, 2).reshape(len(projected), -1)  # from (S * G, heads, length, W / heads)

    def attend_at_ends(self, block: Any, query: Tensor, projected: Tensor, prefix: tuple[Tensor, Tensor]) -> Tensor:
        """Attention of the end tokens alone: queries (S * G, W), keys and values (tokens, 2 W) -> (S * G, W)."""
        (q,) = split_heads(block, query[:, None], 1)  # (S * G, heads, 1, W / heads)
        k, v = split_heads(block, projected.view(self.prompts, self.length, -1), 2)
        k, v = self._behind(prefix[0], k), self._behind(prefix[1], v)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=self.end_mask)
        return out.transpose(1, 2).reshape(len(query), -1)

    def _behind(self, prefix: Tensor, own: Tensor) -> Tensor:
        """Keys or values of the prefix (S or 1, heads, P, d) before those of each class (S * G, heads, n, d)."""
        wide = prefix[:, None].expand(self.sets, self.classes, -1, -1, -1)
        return torch.cat([wide, own.unflatten(0, (self.sets, self.classes))], dim=3).flatten(0, 1)


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
        keys_and_values: KeyValues = []
        for block in self.blocks[:-1]:
            q, k, v = split_heads(block, project(block, block.ln_1(x)), 3)
            keys_and_values.append((k, v))
            out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = finish(block, x, out.transpose(1, 2).flatten(2))
        last = self.blocks[-1]
        k, v = split_heads(last, project(last, last.ln_1(x), first=1), 2)
        return [*keys_and_values, (k, v)]

    def _suffixes(
        self, groups: Sequence[_Group], sets: int, offset: int, contexts: Sequence[Tensor] | None, prefix: KeyValues
    ) -> Tensor:
        """Features (S, C', D) of the groups' classes, in the groups' order; position `offset` is their first."""
        own: Sequence[Tensor | None] = contexts or [None] * len(groups)
        laid = [self._lay(group, sets, offset, context) for group, context in zip(groups, own, strict=True)]
        x = torch.cat([group.tokens for group in laid])  # (tokens, W), group by group, then set by set, class by class
        sizes = [len(group.tokens) for group in laid]
        for block, before in zip(self.blocks[:-1], prefix, strict=False):
            parts = zip(laid, project(block, block.ln_1(x)).split(sizes), strict=True)
            x = finish(block, x, torch.cat([group.attend(block, part, before) for group, part in parts]))
        x = self._last_block(x, laid, sizes, prefix[-1])
        features = self.backbone.project_text(x).split([group.prompts for group in laid])
        return torch.cat([part.view(sets, -1, part.shape[-1]) for part in features], dim=1)

    def _lay(self, group: _Group, sets: int, offset: int, context: Tensor | None) -> _Laid:
        """A group's tokens behind the prefix; its classes' own context (S, G, L, W), if any, stand before names."""
        x = self.names.embeddings[group.classes, : group.name_length].expand(sets, -1, -1, -1)
        ends = group.ends
        if context is not None:
            x = torch.cat([context, x], dim=2)  # (S, G, L + M, W)
            ends = ends + context.shape[2]
        classes, length = x.shape[1:3]
        device = self.positions.device
        return _Laid(
            tokens=(x + self.positions[offset : offset + length]).flatten(0, 2),
            sets=sets,
            classes=classes,
            length=length,
            ends=(torch.arange(sets * classes) * length + ends.repeat(sets)).to(device),
            mask=_causal_mask(length, offset, device),
            end_mask=_end_mask(ends, length, offset, device).repeat(sets, 1, 1, 1) if group.mixed else None,
        )

    def _last_block(self, x: Tensor, laid: Sequence[_Laid], sizes: list[int], prefix: tuple[Tensor, Tensor]) -> Tensor:
        """Output of the last block at the end tokens only: (prompts, W)."""
        block = self.blocks[-1]
        normed = block.ln_1(x)
        starts = [sum(sizes[:index]) for index in range(len(sizes))]
        ends = torch.cat([start + group.ends for start, group in zip(starts, laid, strict=True)])
        queries = project(block, normed[ends], last=1).split([group.prompts for group in laid])  # (prompts, W) each
        keys = project(block, normed, first=1).split(sizes)
        attended = [
            group.attend_at_ends(block, query, part, prefix)
            for group, query, part in zip(laid, queries, keys, strict=True)
        ]
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
        for index, cost in zip(order.tolist(), costs, strict=True):
            if not chunks or filled + cost > self._memory:
                chunks.append([])
                filled = 0.0
            chunks[-1].append(index)
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


def _causal_mask(length: int, offset: int, device: torch.device) -> Tensor:
    """Which of `offset` + `length` keys each of the last `length` positions sees: (length, offset + length)."""
    return torch.ones(length, offset + length, dtype=torch.bool, device=device).tril(offset)


def _end_mask(ends: Tensor, length: int, offset: int, device: torch.device) -> Tensor:
    """Which keys each end token sees: (G, 1, 1, offset + length)."""
    return (torch.arange(offset + length) <= offset + ends[:, None])[:, None, None].to(device)
