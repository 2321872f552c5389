"""Learnable prompts: K sets of context vectors for C classes, and the name tokens that follow them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lsn_core.backbones.backbone import Backbone
from lsn_core.errors import UserError

INIT_STD = 0.02
META_NET_REDUCTION = 16


@dataclass(frozen=True)
class NameTokens:
    """What stands around the context in each class's prompt: start token, name tokens, ".", EOT.

    Attributes:
        start: embeddings of what stands before every text, shape (P, W): CLIP's start token, or none (P = 0).
        embeddings: token embeddings, zeros behind the end token, shape (C, M, W).
        lengths: number of tokens of each class, end token included, shape (C,), int64, on the CPU.
        padding: which tokens the text tower takes for padding by their id, shape (C, M).
    """

    start: Tensor
    embeddings: Tensor
    lengths: Tensor
    padding: Tensor

    def __len__(self) -> int:
        return len(self.embeddings)

    @classmethod
    @torch.no_grad()
    def of(cls, backbone: Backbone, class_names: Sequence[str], context: int, with_name: bool = True) -> NameTokens:
        """Tokens of these classes, to stand behind `context` learned vectors.

        Args:
            context: L, the number of learned vectors.
            with_name: False leaves the name out, so that every prompt ends in "." (the paper's "w/o name").

        Raises:
            UserError: a name leaves no room for the context; the message names the class.
        """
        rows = [_read_name(backbone, name, context, with_name) for name in class_names]
        before = backbone.framing.start
        lengths = torch.tensor([len(row) - before for row in rows])
        ids = torch.zeros(len(rows), int(lengths.max()), dtype=torch.long)
        for i, row in enumerate(rows):
            ids[i, : len(row) - before] = row[before:]
        return cls.of_ids(backbone, rows[0][:before], ids, lengths)

    @classmethod
    @torch.no_grad()
    def of_ids(cls, backbone: Backbone, start: Tensor, ids: Tensor, lengths: Tensor) -> NameTokens:
        """Of token ids.

        Args:
            start: those before every text, shape (P,).
            ids: those of the names, of any values behind the end tokens, shape (C, M).
            lengths: number of tokens of each class, end token included, shape (C,).
        """
        inside = torch.arange(ids.shape[1]) < lengths[:, None]  # (C, M)
        embeddings = backbone.embed_tokens(ids)
        embeddings = embeddings * inside[..., None].to(embeddings)
        padding = backbone.text.find_padding(ids) & inside
        return cls(backbone.embed_tokens(start), embeddings, lengths, padding)

    def of_classes(self, classes: Tensor) -> NameTokens:
        """Those of some classes, by their indices, shape (C',)."""
        there, here = classes.to(self.embeddings.device), classes.cpu()
        return NameTokens(self.start, self.embeddings[there], self.lengths[here], self.padding[here])

    def assemble(self, contexts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Whole prompts, as `Backbone.encode_prompts` takes them.

        Args:
            contexts: shape (S, C or 1, L, W).

        Returns:
            Embeddings (S * C, P + L + M, W), positions of their last tokens (S * C,), and which tokens are padding by
            their id (S * C, P + L + M).
        """
        sets, _, length, width = contexts.shape
        classes, before = len(self), len(self.start)
        start = self.start.expand(sets, classes, -1, width)
        names = self.embeddings.expand(sets, -1, -1, -1)  # (S, C, M, W)
        prompts = torch.cat([start, contexts.expand(-1, classes, -1, -1), names], dim=2).flatten(0, 1)
        padding = torch.cat([self.padding.new_zeros(classes, before + length), self.padding], dim=1)
        return prompts, (before + length + self.lengths - 1).repeat(sets), padding.repeat(sets, 1)


def _read_name(backbone: Backbone, name: str, context: int, with_name: bool) -> Tensor:
    limit = backbone.context_length - backbone.framing.tail - context  # start token, name, ".", end token
    try:
        ids = backbone.tokenize([f"{name}." if with_name else "."])
    except UserError:
        count = limit + 1  # it does not even fit without a context
    else:
        count = int(backbone.find_eot(ids)[0]) + 1
    if count > limit:
        room = max(limit - int(backbone.find_eot(backbone.tokenize(["."]))[0]) - 1, 0)
        raise UserError(
            f"The class name {name[:60]!r}... is too long: beside {context} learned vectors there is room for "
            f"{room} tokens of a name. Shorten the name."
            if len(name) > 60
            else f"The class name {name!r} is too long: beside {context} learned vectors there is room for "
            f"{room} tokens of a name. Shorten the name or learn fewer vectors."
        )
    return ids[0, :count]


class PromptSets(nn.Module):
    """K sets of learned context vectors, one context for all classes or one for each.

    Shared contexts (K, 1, L, W) are CoOp's unified context, class-specific ones (K, C, L, W) are the paper's negative
    prompts. With Meta-Nets they are CoCoOp's: v_i(x) = v_i + m(x), one Meta-Net for each set (Zhou et al., 2022a).

    Args:
        sets: K.
        classes: C for class-specific contexts, 1 for a shared one.
        length: L, vectors in a context.
        width: W, size of a token embedding.
        generator: source of the initial values, N(0, 0.02); on the CPU.
        image_dim: D, size of image features, for Meta-Nets; None for none.
    """

    def __init__(
        self,
        sets: int,
        classes: int,
        length: int,
        width: int,
        generator: torch.Generator,
        image_dim: int | None = None,
    ) -> None:
        super().__init__()
        self.contexts = nn.Parameter(torch.randn(sets, classes, length, width, generator=generator) * INIT_STD)
        self.conditional = image_dim is not None
        if image_dim is None:
            return
        hidden = max(1, image_dim // META_NET_REDUCTION)

        def uniform(fan_in: int, *shape: int) -> nn.Parameter:  # as nn.Linear begins
            return nn.Parameter((torch.rand(*shape, generator=generator) * 2 - 1) / math.sqrt(fan_in))

        self.meta_weight_1 = uniform(image_dim, sets, hidden, image_dim)
        self.meta_bias_1 = uniform(image_dim, sets, hidden)
        self.meta_weight_2 = uniform(hidden, sets, width, hidden)
        self.meta_bias_2 = uniform(hidden, sets, width)

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> PromptSets:
        """The prompts saved as `state_dict()`. Raises UserError when the tensors do not fit together."""
        contexts = tensors.get("contexts")
        if contexts is None or contexts.ndim != 4:
            raise UserError("The learned contexts are missing or have the wrong shape.")
        sets, classes, length, width = contexts.shape
        first = tensors.get("meta_weight_1")
        image_dim = None
        wanted = {"contexts": contexts.shape}
        if first is not None:
            image_dim = int(first.shape[-1]) if first.ndim else 0
            hidden = max(1, image_dim // META_NET_REDUCTION)
            wanted |= {
                "meta_weight_1": torch.Size((sets, hidden, image_dim)),
                "meta_bias_1": torch.Size((sets, hidden)),
                "meta_weight_2": torch.Size((sets, width, hidden)),
                "meta_bias_2": torch.Size((sets, width)),
            }
        if {
            name: tensor.shape for name, tensor in tensors.items()
        } != wanted:  # security: before anything of these sizes is made
            raise UserError("The learned contexts and Meta-Net weights do not fit together.")
        prompts = cls(sets, classes, length, width, torch.Generator(), image_dim)
        prompts.load_state_dict(tensors)
        return prompts

    def meta_tokens(self, features: Tensor) -> Tensor:
        """m(x) of image features (B, D): shape (B, K, W), one Linear-ReLU-Linear for each set."""
        hidden = torch.einsum("bd,khd->bkh", features, self.meta_weight_1) + self.meta_bias_1
        return torch.einsum("bkh,kwh->bkw", hidden.relu(), self.meta_weight_2) + self.meta_bias_2

    def forward(self, features: Tensor | None = None) -> Tensor:
        """Contexts to encode.

        Args:
            features: image features (B, D), wanted by Meta-Nets of no effect without them.

        Returns:
            Shape (S, C or 1, L, W), S = K, or B * K (image by image) with Meta-Nets.
        """
        if not self.conditional:
            return self.contexts
        if features is None:
            raise ValueError("image-conditioned prompts need image features")
        tokens = self.meta_tokens(features)  # (B, K, W)
        return (self.contexts + tokens[:, :, None, None, :]).flatten(0, 1)  # (B * K, C or 1, L, W)
