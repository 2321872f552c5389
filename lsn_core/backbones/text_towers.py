"""The text towers that open_clip's models have, one class a kind: what each needs to run prompts with learned vectors.

A kind of its own is a class with what `TextKind` lists, and an entry in `KINDS`.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from lsn_core.backbones.blip_text import BlipText
from lsn_core.backbones.framing import Framing
from lsn_core.backbones.hugging_face_text import HuggingFaceText

_USE = "Use a model with open_clip's own text tower, such as ViT-B-16:openai."


class TextKind(Protocol):
    """A text tower as it is prompted.

    Attributes:
        module: what holds the embeddings and the transformer.
        refusal: why it cannot take learned prompts, the end of a sentence; None where it can.
        width: W, the size of a token embedding.
        layers: transformer blocks.
    """

    module: Any
    refusal: str | None

    @classmethod
    def fits(cls, module: Any) -> bool:
        """Whether a text tower is of this kind; the first of `KINDS` that says so is taken."""

    def __init__(self, module: Any, framing: Framing) -> None: ...

    @property
    def width(self) -> int: ...

    @property
    def layers(self) -> int: ...

    def embed(self, ids: Tensor) -> Tensor:
        """Token embeddings without positions: (..., n) ids -> (..., n, W)."""

    def find_eot(self, ids: Tensor) -> Tensor:
        """Position of the last token of each text's own: (N, n) ids -> (N,)."""

    def find_padding(self, ids: Tensor) -> Tensor:
        """Which tokens this tower takes for padding by their id, wherever they stand: bool, of the shape of ids."""

    def positions(self, tokens: int) -> int:
        """How many positions are run for prompts of so many tokens."""

    def encode(self, x: Tensor, eot: Tensor, padding: Tensor | None = None) -> Tensor:
        """Features of prompts, as the model's own `encode_text` has them of the same tokens; differentiable in x.

        Args:
            x: token embeddings without positions, shape (B, n, W), n <= context_length; what stands behind `eot`
                does not count.
            eot: position of the last token of each prompt's own, shape (B,).
            padding: what `find_padding` says of the tokens, shape (B, n), False at learned vectors; None for none.

        Returns:
            Shape (B, D), not of unit length.
        """


class _OpenClipText:
    """What all text towers of open_clip's own classes share. CLIP keeps the parts of its tower on the model itself."""

    refusal: str | None = None

    def __init__(self, module: Any, framing: Framing) -> None:
        self.module, self.framing = module, framing
        self.pool = _pool(module)

    @property
    def width(self) -> int:
        return int(self.module.token_embedding.weight.shape[-1])

    @property
    def layers(self) -> int:
        return len(self.module.transformer.resblocks)

    def embed(self, ids: Tensor) -> Tensor:
        embeddings: Tensor = self.module.token_embedding(ids)
        return embeddings

    def find_eot(self, ids: Tensor) -> Tensor:
        if self.pool == "eos":
            return (ids == self._eos).int().argmax(dim=-1)
        return ids.argmax(dim=-1)  # the end token has the largest id

    def find_padding(self, ids: Tensor) -> Tensor:
        return torch.zeros_like(ids, dtype=torch.bool)  # no mask depends on it

    @property
    def _eos(self) -> int:
        return int(getattr(self.module, "eos_id", None) or self.module.text_eos_id)

    def project(self, x: Tensor) -> Tensor:
        """The transformer's outputs where the feature is read, (B, W) -> text features (B, D)."""
        x = self.module.ln_final(x)  # it acts on each position alone, so that one position can be picked first
        projection = self.module.text_projection
        if isinstance(projection, nn.Linear):
            return projection(x)
        return x if projection is None else x @ projection

    def _filled(self, x: Tensor, eot: Tensor, length: int) -> Tensor:
        """Prompts at `length` positions, with the embeddings of padding behind their own tokens: (B, length, W)."""
        padding = self.embed(self.framing.empty[:length].to(x.device)).to(x.dtype)
        if x.shape[1] < length:
            x = torch.cat([x, padding[x.shape[1] :].expand(len(x), -1, -1)], dim=1)
        own = torch.arange(length, device=x.device) <= eot.to(x.device)[:, None]
        return torch.where(own[..., None], x[:, :length], padding)


class CausalText(_OpenClipText):
    """CLIP's own: causal, its feature is read at the end token. What stands behind that is cut off, exactly."""

    @classmethod
    def fits(cls, module: Any) -> bool:
        """A causal transformer that pools at the end token."""
        standard = _has_parts(module) and not _has_class_token(module)
        return standard and _mask(module) is not None and _pool(module) in ("argmax", "eos")

    def positions(self, tokens: int) -> int:
        return tokens

    def encode(self, x: Tensor, eot: Tensor, padding: Tensor | None = None) -> Tensor:
        text = self.module
        length = int(eot.max()) + 1
        dtype = text.transformer.get_cast_dtype()
        x = x[:, :length].to(dtype) + text.positional_embedding[:length].to(dtype)
        x = text.transformer(x, attn_mask=text.attn_mask[:length, :length])  # (B, length, W)
        return self.project(x[torch.arange(len(x), device=x.device), eot.to(x.device)])


class WholeText(_OpenClipText):
    """SigLIP's, CLIPA's and MobileCLIP-S's: no causal mask, or pooled elsewhere, so that padding has its say."""

    @classmethod
    def fits(cls, module: Any) -> bool:
        """Any other transformer of open_clip's without a class token."""
        return _has_parts(module) and not _has_class_token(module)

    def __init__(self, module: Any, framing: Framing) -> None:
        super().__init__(module, framing)
        if self.pool not in ("argmax", "eos", "first", "last"):
            self.refusal = f"it does not pool its positions ({self.pool!r}). {_USE}"
        elif getattr(module, "use_pad_mask", False):
            self.refusal = f"it masks padding in a way of its own. {_USE}"

    def find_eot(self, ids: Tensor) -> Tensor:
        return super().find_eot(ids) if self.pool in ("argmax", "eos") else self.framing.find_end(ids)

    def positions(self, tokens: int) -> int:
        return len(self.module.positional_embedding)

    def encode(self, x: Tensor, eot: Tensor, padding: Tensor | None = None) -> Tensor:
        text = self.module
        dtype = text.transformer.get_cast_dtype()
        x = self._filled(x, eot, len(text.positional_embedding))
        x = text.transformer(x.to(dtype) + text.positional_embedding.to(dtype), attn_mask=_mask(text))
        rows = torch.arange(len(x), device=x.device)
        place = {"first": 0, "last": -1}.get(self.pool)
        return self.project(x[rows, eot.to(x.device)] if place is None else x[:, place])


class ClassTokenText(_OpenClipText):
    """CoCa's: causal, and its feature is read from a class token behind the text, which sees no padding but one.

    open_clip's mask stands one position too late (as CoCa's weights were trained), so the class token sees the first
    position of padding, and not a token whose predecessor has the padding's id, as "!" has in CLIP's vocabulary.
    """

    @classmethod
    def fits(cls, module: Any) -> bool:
        """A transformer of open_clip's with a class token."""
        return _has_parts(module) and _has_class_token(module)

    def find_padding(self, ids: Tensor) -> Tensor:
        return ids == self.module.pad_id

    def positions(self, tokens: int) -> int:
        return min(tokens + 1, self._room) + 1

    @property
    def _room(self) -> int:
        return len(self.module.positional_embedding) - 1

    def encode(self, x: Tensor, eot: Tensor, padding: Tensor | None = None) -> Tensor:
        text, eot = self.module, eot.to(x.device)
        length = min(int(eot.max()) + 2, self._room)  # what is behind that is masked for all
        dtype = text.transformer.get_cast_dtype()
        x = self._filled(x, eot, length)
        x = torch.cat([x.to(dtype), text.cls_emb.to(dtype).expand(len(x), 1, -1)], dim=1)
        places = torch.cat([text.positional_embedding[:length], text.positional_embedding[-1:]])
        x = text.transformer(x + places.to(dtype), attn_mask=self._mask(eot, length, padding, x.dtype))
        return self.project(x[:, -1])

    def _mask(self, eot: Tensor, length: int, padding: Tensor | None, dtype: torch.dtype) -> Tensor:
        """What is added to the products of queries and keys: (B * heads, length + 1, length + 1), 0 or -inf."""
        seen = torch.arange(length, device=eot.device) <= eot[:, None]  # (B, length)
        if padding is not None:
            hidden = padding[:, :length].to(eot.device)
            seen[:, : hidden.shape[1]] &= ~hidden
        always = seen.new_ones(len(seen), 1)
        if self.module.correct_cls_mask:
            seen = torch.cat([seen, always], dim=1)
        else:
            last = seen[:, -1:] if length == self._room else ~always
            seen = torch.cat([always, seen[:, :-1], last], dim=1)
        mask = seen[:, None].expand(-1, length + 1, -1)
        if _mask(self.module) is not None:
            mask = mask & torch.ones(length + 1, length + 1, dtype=torch.bool, device=eot.device).tril()
        added = torch.zeros(mask.shape, dtype=dtype, device=eot.device).masked_fill(~mask, float("-inf"))
        return added.repeat_interleave(int(self.module.heads), dim=0)


class OtherText:
    """A text tower of no known kind: it reads texts, and takes no learned prompts."""

    @classmethod
    def fits(cls, module: Any) -> bool:
        """Any."""
        return True

    def __init__(self, module: Any, framing: Framing) -> None:
        self.module = module
        self.refusal: str | None = f"it is a {type(module).__name__}, whose parts are not known. {_USE}"

    width = layers = 0

    def embed(self, ids: Tensor) -> Tensor:
        raise NotImplementedError(self.refusal)

    find_eot = find_padding = embed

    def positions(self, tokens: int) -> int:
        return tokens

    def encode(self, x: Tensor, eot: Tensor, padding: Tensor | None = None) -> Tensor:
        raise NotImplementedError(self.refusal)


KINDS: tuple[type[TextKind], ...] = (CausalText, ClassTokenText, WholeText, HuggingFaceText, BlipText, OtherText)


def text_kind(model: Any, framing: Framing) -> TextKind:
    """The text tower of an open_clip model. CustomTextCLIP and CoCa keep it under .text, CLIP on the model itself."""
    module = getattr(model, "text", model)
    return next(kind for kind in KINDS if kind.fits(module))(module, framing)


def _has_parts(module: Any) -> bool:
    parts = ("token_embedding", "positional_embedding", "ln_final", "text_projection")
    return all(hasattr(module, part) for part in parts) and hasattr(getattr(module, "transformer", None), "resblocks")


def _mask(module: Any) -> Tensor | None:
    mask: Tensor | None = getattr(module, "attn_mask", None)
    return mask


def _has_class_token(module: Any) -> bool:
    return getattr(module, "cls_emb", None) is not None


def _pool(module: Any) -> str:
    return str(getattr(module, "pool_type", None) or getattr(module, "text_pool_type", "argmax"))
