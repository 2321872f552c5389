"""The frozen text tower run on the positions that matter only; exact, and differentiable in the contexts.

Against 77 tokens for each prompt, one set at a time, this leaves out, without changing the result:

- positions behind the end token, prompt by prompt (attention is causal): classes are grouped by length and the groups
  laid end to end in one tensor, so that every linear layer sees (tokens, W) without padding;
- the start token and a shared context for all classes but one: only their keys and values are needed further on, and
  those of the start token never change;
- in the last block, everything but keys and values at positions other than the end token;
- activations of all classes at once where they would not fit: chunks of classes are recomputed in the backward pass;
- what stays the same from step to step, names with their positions, masks and places: it is made once and kept on the
  device, so that a step waits for no copy from the host and can be captured as a CUDA graph.

With `precision` "bf16" the products of the linear layers and of attention are in bfloat16, from weights that were
rounded once; the residual stream, norms and the projection's result stay in fp32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lsn_core.backbones.backbone import Backbone
from lsn_core.backbones.blocks import is_standard
from lsn_core.backbones.frozen_blocks import FrozenBlock, frozen_blocks
from lsn_core.backbones.text_towers import CausalText
from lsn_core.prompts.learned import NameTokens

DEFAULT_MEMORY_GIB = 3.0
# Floats kept for the backward pass at one position of one block, in units of the width; measured, rounded up.
_KEPT_PER_POSITION = 16

KeyValues = list[tuple[Tensor, Tensor]]  # per block: keys and values, each (S or 1, heads, P, W / heads)


@dataclass(frozen=True)
class _Group:
    """Classes whose prompts are run at one length, with all that does not change from step to step.

    Attributes:
        classes: indices of the classes, shape (G,).
        names: their name tokens with positions, shape (G, M, W).
        length: tokens of one prompt behind the prefix.
        ends: place of each end token among them, shape (G,).
        mask: 0 for the keys that each position sees, -inf for others, shape (length, prefix + length).
        end_mask: the same for the end tokens, shape (G, 1, 1, prefix + length); None where they see all.
    """

    classes: Tensor
    names: Tensor
    length: int
    ends: Tensor
    mask: Tensor
    end_mask: Tensor | None


@dataclass(frozen=True)
class _Plan:
    """Classes in chunks of groups, and how to put the features of the groups back into the classes' order."""

    chunks: list[list[_Group]]
    order: Tensor


@dataclass(frozen=True)
class _Laid:
    """A group's tokens for S prompt sets, laid end to end: (S * G * length, W), set by set, then class by class."""

    group: _Group
    sets: int
    tokens: Tensor
    ends: Tensor

    @property
    def prompts(self) -> int:
        return self.sets * len(self.group.classes)

    def attend(self, block: FrozenBlock, projected: Tensor, prefix: tuple[Tensor, Tensor]) -> Tensor:
        """Attention of all positions: queries, keys and values (tokens, 3 W) -> (tokens, W)."""
        q, k, v = block.heads(projected.view(self.prompts, self.group.length, -1), 3)
        out = _attention(q, self._behind(prefix[0], k), self._behind(prefix[1], v), self.group.mask)
        return out.transpose(1, 2).reshape(len(projected), -1)  # from (S * G, heads, length, W / heads)

    def attend_at_ends(
        self, block: FrozenBlock, query: Tensor, projected: Tensor, prefix: tuple[Tensor, Tensor]
    ) -> Tensor:
        """Attention of the end tokens alone: queries (S * G, W), keys and values (tokens, 2 W) -> (S * G, W)."""
        (q,) = block.heads(query[:, None], 1)  # (S * G, heads, 1, W / heads)
        k, v = block.heads(projected.view(self.prompts, self.group.length, -1), 2)
        mask = self.group.end_mask
        wide = None if mask is None else mask.repeat(self.sets, 1, 1, 1)
        out = _attention(q, self._behind(prefix[0], k), self._behind(prefix[1], v), wide)
        return out.transpose(1, 2).reshape(len(query), -1)

    def _behind(self, prefix: Tensor, own: Tensor) -> Tensor:
        """Keys or values of the prefix (S or 1, heads, P, d) before those of each class (S * G, heads, n, d)."""
        classes = len(self.group.classes)
        wide = prefix[:, None].expand(self.sets, classes, -1, -1, -1).to(own.dtype)
        return torch.cat([wide, own.unflatten(0, (self.sets, classes))], dim=3).flatten(0, 1)


def _attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(q k^T / sqrt(d) + mask) v, for (B, heads, n, d) each.

    Written out, as PyTorch's fused kernels are made for longer sequences: on prompts of 21 tokens, forward and backward
    together, they take 1.3 times as long on a CPU in fp32 and 7 times in bfloat16, and twice as long on an H100.
    """
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    return (scores if mask is None else scores + mask.to(scores.dtype)).softmax(dim=-1) @ v


class TextTower:
    """The text tower of a backbone, for prompts that share what stands before and behind their contexts.

    Args:
        backbone: a promptable one.
        names: name tokens of the C classes.
        memory_gib: how much the activations of one pass may take before classes are run in chunks.
        by_length: group classes by length (fewest operations, for a CPU) or run all at the longest one (fewest kernel
            launches, for a GPU). None chooses by device.
        precision: "fp32", or "bf16" for the products.
    """

    def __init__(
        self,
        backbone: Backbone,
        names: NameTokens,
        memory_gib: float = DEFAULT_MEMORY_GIB,
        by_length: bool | None = None,
        precision: str = "fp32",
    ) -> None:
        self.backbone = backbone
        self.names = names
        self.half = precision == "bf16"
        text = backbone.text_tower
        blocks = list(text.transformer.resblocks) if isinstance(backbone.text, CausalText) else []
        # Other towers and other block types (open_clip's custom ones) take the plain way.
        self.plain = not blocks or not all(is_standard(block) for block in blocks)
        self.blocks: list[FrozenBlock] = [] if self.plain else frozen_blocks(backbone, blocks, self.half)
        self.by_length = backbone.device.type == "cpu" if by_length is None else by_length
        self._memory = memory_gib * 2**30
        self._plans: dict[tuple[int, int], _Plan] = {}

    def encode(self, contexts: Tensor, classes: Tensor | None = None) -> Tensor:
        """Text features of the prompts [SOS, context, name, ".", EOT].

        Args:
            contexts: shape (S, C, L, W), or (S, 1, L, W) for a context shared by all classes.
            classes: run only these, ascending indices of shape (C',); contexts for each class are then of these alone,
                (S, C', L, W).

        Returns:
            Shape (S, C or C', D), fp32, unit length.
        """
        with torch.autocast(self.backbone.device.type, torch.bfloat16, enabled=self.half):
            features = self._encode(contexts, classes)
        return features.float() if self.half else features

    def _encode(self, contexts: Tensor, classes: Tensor | None) -> Tensor:
        sets, own_contexts, length, _ = contexts.shape
        if self.plain:
            return self._encode_plainly(contexts, classes)
        shared, before = own_contexts == 1, len(self.names.start)
        prefix = self._prefix(contexts[:, 0]) if shared else self._start
        offset = before + length if shared else before
        plan = self._plan(sets, 0 if shared else length, offset, classes)
        recompute = len(plan.chunks) > 1 and torch.is_grad_enabled() and contexts.requires_grad
        parts = []
        for groups in plan.chunks:
            own = None if shared else [contexts[:, group.classes] for group in groups]
            run = partial(self._suffixes, groups, sets, offset)
            if recompute:
                parts.append(checkpoint(run, own, prefix, use_reentrant=False, preserve_rng_state=False))
            else:
                parts.append(run(own, prefix))
        return torch.cat(parts, dim=1)[:, plan.order]

    def _encode_plainly(self, contexts: Tensor, classes: Tensor | None) -> Tensor:
        """The whole tower on whole prompts, some classes at a time where all do not fit."""
        sets, _, length, width = contexts.shape
        names = self.names if classes is None else self.names.of_classes(classes)
        kind = self.backbone.text
        positions = kind.positions(len(names.start) + length + int(names.lengths.max()))
        cost = sets * positions * 4 * width * max(kind.layers, 1) * _KEPT_PER_POSITION
        chunks = torch.arange(len(names)).split(max(1, int(self._memory / cost)))
        recompute = len(chunks) > 1 and torch.is_grad_enabled() and contexts.requires_grad
        parts = []
        for chunk in chunks:
            own = contexts if contexts.shape[1] == 1 else contexts[:, chunk]
            run = partial(self._whole_prompts, names.of_classes(chunk))
            parts.append(checkpoint(run, own, use_reentrant=False, preserve_rng_state=False) if recompute else run(own))
        return torch.cat(parts, dim=1)

    def _whole_prompts(self, names: NameTokens, contexts: Tensor) -> Tensor:
        return self.backbone.encode_prompts(*names.assemble(contexts)).unflatten(0, (len(contexts), -1))

    def activations_gib(self, sets: int, context: int) -> float:
        """What one pass would keep of all classes at once for its backward pass, in GiB.

        Args:
            sets: S.
            context: L of contexts that each class has of its own; 0 for a shared one.
        """
        lengths = self.names.lengths
        run_at = lengths if self.by_length and not self.plain else torch.full_like(lengths, int(lengths.max()))
        layers = self.backbone.text.layers if self.plain else len(self.blocks)
        per_token = 4 * self.backbone.width * max(layers, 1) * _KEPT_PER_POSITION
        return float((run_at + context).sum()) * sets * per_token / 2**30

    # -- what is run --------------------------------------------------------------------------------------------------

    @property
    def positions(self) -> Tensor:
        """Embeddings of the positions, shape (context_length, W)."""
        embeddings: Tensor = self.backbone.text_tower.positional_embedding
        return embeddings

    @cached_property
    def _start(self) -> KeyValues:
        with torch.no_grad():
            return self._run_prefix(self.names.start[None])

    def _prefix(self, context: Tensor) -> KeyValues:
        start = self.names.start.expand(len(context), -1, -1)
        return self._run_prefix(torch.cat([start, context], dim=1))

    def _run_prefix(self, x: Tensor) -> KeyValues:
        """Keys and values of the positions before the classes part; x (S, P, W) without positions."""
        x = x + self.positions[: x.shape[1]]
        mask = _causal_mask(x.shape[1], 0, x.device)
        keys_and_values: KeyValues = []
        for block in self.blocks[:-1]:
            q, k, v = block.heads(block.qkv(block.norm(x)), 3)
            keys_and_values.append((k, v))
            x = block.finish(x, _attention(q, k, v, mask).transpose(1, 2).flatten(2))
        last = self.blocks[-1]
        k, v = last.heads(last.kv(last.norm(x)), 2)
        return [*keys_and_values, (k, v)]

    def _suffixes(
        self, groups: Sequence[_Group], sets: int, offset: int, contexts: Sequence[Tensor] | None, prefix: KeyValues
    ) -> Tensor:
        """Features (S, C', D) of the groups' classes, in the groups' order; position `offset` is their first."""
        own: Sequence[Tensor | None] = contexts or [None] * len(groups)
        laid = [self._lay(group, sets, offset, context) for group, context in zip(groups, own, strict=True)]
        x = torch.cat([part.tokens for part in laid])  # (tokens, W), group by group, then set by set, class by class
        sizes = [len(part.tokens) for part in laid]
        for block, before in zip(self.blocks[:-1], prefix, strict=False):
            parts = zip(laid, block.qkv(block.norm(x)).split(sizes), strict=True)
            x = block.finish(x, torch.cat([group.attend(block, part, before) for group, part in parts]))
        x = self._last_block(x, laid, sizes, prefix[-1])
        features = self._project(x).split([part.prompts for part in laid])
        return torch.cat([part.view(sets, -1, part.shape[-1]) for part in features], dim=1)

    def _project(self, x: Tensor) -> Tensor:
        kind = self.backbone.text
        assert isinstance(kind, CausalText)
        features = kind.project(x)
        return F.normalize(features if features.dtype == torch.float64 else features.float(), dim=-1)

    def _lay(self, group: _Group, sets: int, offset: int, context: Tensor | None) -> _Laid:
        """A group's tokens behind the prefix; its classes' own context (S, G, L, W), if any, stand before names."""
        x = group.names.expand(sets, -1, -1, -1)
        if context is not None:
            x = torch.cat([context + self.positions[offset : offset + context.shape[2]], x], dim=2)  # (S, G, L + M, W)
        first = torch.arange(sets * len(group.classes), device=x.device) * group.length
        return _Laid(group, sets, tokens=x.flatten(0, 2), ends=first + group.ends.repeat(sets))

    def _last_block(self, x: Tensor, laid: Sequence[_Laid], sizes: list[int], prefix: tuple[Tensor, Tensor]) -> Tensor:
        """Output of the last block at the end tokens only: (prompts, W)."""
        block = self.blocks[-1]
        normed = block.norm(x)
        starts = [sum(sizes[:index]) for index in range(len(sizes))]
        ends = torch.cat([start + part.ends for start, part in zip(starts, laid, strict=True)])
        queries = block.q(normed[ends]).split([part.prompts for part in laid])  # (prompts, W) each
        keys = block.kv(normed).split(sizes)
        attended = [
            part.attend_at_ends(block, query, key, prefix) for part, query, key in zip(laid, queries, keys, strict=True)
        ]
        return block.finish(x[ends], torch.cat(attended))

    # -- what is run together -----------------------------------------------------------------------------------------

    @torch.no_grad()
    def _plan(self, sets: int, context: int, offset: int, classes: Tensor | None) -> _Plan:
        """Classes in chunks whose activations fit, each sorted into groups of one length.

        Args:
            context: vectors of each class's own context, 0 for a shared one.
            offset: positions before them.
        """
        key = (sets, context)
        if classes is None and key in self._plans:
            return self._plans[key]
        places = torch.arange(len(self.names)) if classes is None else classes.cpu()
        lengths = self.names.lengths[places]
        per_token = 4 * self.positions.shape[-1] * len(self.blocks) * _KEPT_PER_POSITION
        order = lengths.argsort(stable=True)
        run_at = lengths[order] if self.by_length else torch.full_like(lengths, int(lengths.max()))
        chunks: list[list[int]] = []
        filled = 0.0
        for index, cost in zip(order.tolist(), ((run_at + context) * sets * per_token).tolist(), strict=True):
            if not chunks or filled + cost > self._memory:
                chunks.append([])
                filled = 0.0
            chunks[-1].append(index)
            filled += cost
        parts = [self._groups(torch.tensor(chunk), lengths, places, context, offset) for chunk in chunks]
        ran = torch.cat([group.classes for groups in parts for group in groups])
        plan = _Plan(parts, ran.argsort())
        if classes is None:
            self._plans[key] = plan
        return plan

    def _groups(self, chunk: Tensor, lengths: Tensor, places: Tensor, context: int, offset: int) -> list[_Group]:
        """Groups of the classes at these indices into `lengths` and `places`."""
        own = lengths[chunk]
        if not self.by_length:
            return [self._group(chunk, own, places, context, offset)]
        return [
            self._group(chunk[own == length], own[own == length], places, context, offset)
            for length in own.unique().tolist()
        ]

    def _group(self, chunk: Tensor, lengths: Tensor, places: Tensor, context: int, offset: int) -> _Group:
        device, tokens = self.positions.device, int(lengths.max())
        length = context + tokens
        names = self.names.embeddings[places[chunk].to(device), :tokens]
        ends = context + lengths - 1
        mixed = bool((lengths != tokens).any())
        return _Group(
            classes=chunk.to(device),
            names=names + self.positions[offset + context : offset + length],
            length=length,
            ends=ends.to(device),
            mask=_causal_mask(length, offset, device),
            end_mask=_end_mask(ends, length, offset, device) if mixed else None,
        )


def _causal_mask(length: int, offset: int, device: torch.device) -> Tensor:
    """Which of `offset` + `length` keys each of the last `length` positions sees: (length, offset + length)."""
    seen = torch.ones(length, offset + length, dtype=torch.bool, device=device).tril(offset)
    return torch.zeros(length, offset + length, device=device).masked_fill(~seen, float("-inf"))


def _end_mask(ends: Tensor, length: int, offset: int, device: torch.device) -> Tensor:
    """Which keys each end token sees: (G, 1, 1, offset + length)."""
    seen = torch.arange(offset + length) <= offset + ends[:, None]
    return torch.zeros(seen.shape).masked_fill(~seen, float("-inf"))[:, None, None].to(device)
