"""The method written out slowly from the paper's equations: 77 tokens, one prompt set at a time, plain loops."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lsn_core.backbones.backbone import Backbone


def text_features(backbone: Backbone, contexts: Tensor, class_names: Sequence[str], with_name: bool = True) -> Tensor:
    """One set: contexts (C, L, W) or shared (L, W) -> (C, D), through open_clip's own modules at full length."""
    text = getattr(backbone.model, "text", backbone.model)
    length = contexts.shape[-2]
    rows, ends = [], []
    for c, name in enumerate(class_names):
        context = contexts if contexts.ndim == 2 else contexts[c]
        placeholder = " ".join(["X"] * length)  # as CoOp tokenizes, then overwrites the placeholders
        tokens = backbone.tokenizer([f"{placeholder} {name}." if with_name else f"{placeholder}."], 77).to(
            contexts.device
        )
        embedded = text.token_embedding(tokens)[0]
        rows.append(torch.cat([embedded[:1], context, embedded[1 + length :]]))
        ends.append(int(tokens[0].argmax()))
    x = torch.stack(rows) + text.positional_embedding
    x = text.ln_final(text.transformer(x, attn_mask=text.attn_mask))
    x = x[range(len(ends)), ends]
    projection = text.text_projection
    x = projection(x) if isinstance(projection, torch.nn.Linear) else x @ projection
    return x / x.norm(dim=-1, keepdim=True)


def softmax(values: Tensor) -> Tensor:
    powers = (values - values.max()).exp()
    return powers / powers.sum()


def cross_entropy(logits: Tensor, label: int, loss_on: str) -> Tensor:
    p = softmax(logits)
    return -(softmax(p) if loss_on == "probabilities" else p)[label].log()


def positive_loss(image: Tensor, labels: Tensor, text: Tensor, temperature: float, loss_on: str) -> Tensor:
    """Eqs. 3 and 4 of images (N, D) and one set (C, D)."""
    losses = [cross_entropy(text @ x / temperature, int(y), loss_on) for x, y in zip(image, labels, strict=True)]
    return sum(losses) / len(losses)


def negative_loss(image: Tensor, labels: Tensor, sets: Sequence[Tensor], temperature: float, loss_on: str) -> Tensor:
    """Eqs. 5 and 6, the constant 1/τ included; the mean over sets."""
    losses = [
        cross_entropy((1 - text @ x) / temperature, int(y), loss_on)
        for text in sets
        for x, y in zip(image, labels, strict=True)
    ]
    return sum(losses) / len(losses)


def orthogonality(sets: Sequence[Tensor], reg: str) -> Tensor:
    """Eq. 7, or the authors' code: the mean over classes and other sets, the others fixed; here the mean over sets."""
    total = torch.zeros((), device=sets[0].device)
    count = len(sets)
    for c in range(len(sets[0])):
        for i in range(count):
            for j in range(i + 1, count):
                if reg == "sum_abs":
                    total = total + (sets[i][c] @ sets[j][c]).abs()
                else:
                    one = sets[i][c] @ sets[j][c].detach() + sets[j][c] @ sets[i][c].detach()
                    total = total + one / (count * len(sets[0]) * (count - 1))
    return total
