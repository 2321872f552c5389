"""BLIP's two towers and contrastive heads in the parts that a `Backbone` wants of a model.

BLIP (Li et al. 2022, https://arxiv.org/abs/2201.12086) in the layout of transformers' `BlipForImageTextRetrieval`,
with `use_itm_head=False`: the matching head, which reads both towers at once, has no part in features.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.transformer import LayerNorm, QuickGELU, VisionTransformer
from torch import Tensor, nn

_ACTIVATIONS = {"gelu": nn.GELU, "quick_gelu": QuickGELU}  # what BLIP's own configs may name, by transformers' names
ACTIVATIONS = tuple(_ACTIVATIONS)


class BlipImageTower(VisionTransformer):
    """BLIP's ViT as one of open_clip's, so that whatever opens those up opens this one, too.

    Three things are BLIP's own: patches have a bias, there is no norm before the first block, and the projection is a
    linear layer with a bias.

    Args:
        config: of transformers, a `BlipVisionConfig`.
        dim: D, size of the shared space.
        preprocess: open_clip's preprocess_cfg.
    """

    proj: Any  # a layer here, and a matrix in open_clip's

    def __init__(self, config: Any, dim: int, preprocess: Mapping[str, Any]) -> None:
        super().__init__(
            image_size=config.image_size,
            patch_size=config.patch_size,
            width=config.hidden_size,
            layers=config.num_hidden_layers,
            heads=config.num_attention_heads,
            mlp_ratio=config.intermediate_size / config.hidden_size,
            output_dim=dim,
            no_ln_pre=True,
            act_layer=_ACTIVATIONS[config.hidden_act],
            norm_layer=partial(LayerNorm, eps=config.layer_norm_eps),
        )
        patch = self.patch_size
        self.conv1 = nn.Conv2d(3, config.hidden_size, patch, stride=patch)
        del self.proj
        self.proj = nn.Linear(config.hidden_size, dim)
        self.preprocess_cfg = dict(preprocess)

    def forward(self, x: Tensor) -> Tensor:
        """Pixels (N, 3, H, W) -> features (N, D), not of unit length."""
        projected: Tensor = self.proj(self._pool(self.transformer(self._embeds(x)))[0])
        return projected


class BlipTextTower(nn.Module):
    """BLIP's BERT and its projection; the feature is read at the first token, [CLS].

    Each token attends to all others: padding is masked, and the end of each text has to be known.

    Args:
        bert: transformers' `BlipTextModel` without cross-attention and pooler.
        dim: D, size of the shared space.
        pad_id: of the token that fills texts up.
    """

    def __init__(self, bert: Any, dim: int, pad_id: int) -> None:
        super().__init__()
        self.bert = bert
        self.proj = nn.Linear(bert.config.hidden_size, dim)
        self.pad_id = pad_id
        self.config = bert.config

    @property
    def shaping(self) -> dict[str, Any]:
        """What its config says that changes features and is in no weight."""
        names = ("hidden_act", "num_attention_heads", "layer_norm_eps", "pad_token_id")
        return {name: getattr(self.config, name) for name in names}

    @property
    def width(self) -> int:
        """Size of a token embedding."""
        return int(self.config.hidden_size)

    def embed(self, tokens: Tensor) -> Tensor:
        """Token embeddings without positions: (..., n) ids -> (..., n, width)."""
        embedded: Tensor = self.bert.embeddings.word_embeddings(tokens)
        return embedded

    def find_end(self, tokens: Tensor) -> Tensor:
        """Position of each text's last token: (N, n) ids, filled up with `pad_id` -> (N,)."""
        filled = (tokens != self.pad_id).int()
        return tokens.shape[-1] - 1 - filled.flip(-1).argmax(dim=-1)

    def encode(self, token_embeddings: Tensor, ends: Tensor) -> Tensor:
        """Features of given token embeddings; differentiable in them.

        Args:
            token_embeddings: shape (B, n, width), without positions.
            ends: position of the last token of each text, shape (B,), in [0, n).

        Returns:
            Shape (B, D), not of unit length.
        """
        length = int(ends.max()) + 1
        parts = self.bert.embeddings
        x = parts.LayerNorm(token_embeddings[:, :length] + parts.position_embeddings.weight[:length])
        mask = torch.arange(length, device=x.device) <= ends.to(x.device)[:, None]  # (B, length)
        x = self.bert(encoder_embeds=x, attention_mask=mask.long()).last_hidden_state  # (B, length, width)
        projected: Tensor = self.proj(x[:, 0])
        return projected

    def forward(self, tokens: Tensor) -> Tensor:
        """Token ids (N, n) -> features (N, D), not of unit length."""
        return self.encode(self.embed(tokens), self.find_end(tokens))


class BlipModel(nn.Module):
    """BLIP with the attributes of an open_clip model.

    Attributes:
        visual, text: the towers.
        logit_scale: log(1 / τ).
        context_length: the longest text in tokens, first and last one included.
    """

    def __init__(self, visual: BlipImageTower, text: BlipTextTower, temperature: float) -> None:
        super().__init__()
        self.visual = visual
        self.text = text
        self.logit_scale = nn.Parameter(torch.tensor(1.0 / temperature).log())
        self.context_length = int(text.config.max_position_embeddings)

    def encode_image(self, image: Tensor, normalize: bool = False) -> Tensor:
        """Pixels (N, 3, H, W) -> features (N, D)."""
        features: Tensor = self.visual(image)
        return F.normalize(features, dim=-1) if normalize else features

    def encode_text(self, text: Tensor, normalize: bool = False) -> Tensor:
        """Token ids (N, n) -> features (N, D)."""
        features: Tensor = self.text(text)
        return F.normalize(features, dim=-1) if normalize else features


class BlipTokenizer:
    """BERT's tokenizer with the call of open_clip's tokenizers; frames a text with [CLS] and [SEP].

    Args:
        tokenizer: transformers' `BertTokenizerFast`.
        digest: of its vocabulary, which decides features as the weights do.
    """

    def __init__(self, tokenizer: Any, digest: str) -> None:
        self.tokenizer = tokenizer
        self.digest = digest

    def __call__(self, texts: str | Sequence[str], context_length: int = 512) -> Tensor:
        """Token ids, shape (N, context_length), filled up with [PAD]; what is longer is cut, its last token kept."""
        encoded = self.tokenizer([texts] if isinstance(texts, str) else list(texts), verbose=False)
        rows = [list(row) for row in encoded["input_ids"]]
        filled = torch.full((len(rows), context_length), int(self.tokenizer.pad_token_id))
        for i, row in enumerate(rows):
            kept = row if len(row) <= context_length else [*row[: context_length - 1], row[-1]]
            filled[i, : len(kept)] = torch.tensor(kept)
        return filled


# -- from transformers' names of the weights to these -----------------------------------------------------------------

_LAYER, _BLOCK = r"vision_model\.encoder\.layers\.(\d+)\.", r"visual.transformer.resblocks.\1."
_RENAMED = (
    (r"vision_model\.embeddings\.patch_embedding\.", "visual.conv1."),
    (r"vision_model\.embeddings\.class_embedding$", "visual.class_embedding"),
    (r"vision_model\.embeddings\.position_embedding$", "visual.positional_embedding"),
    (rf"{_LAYER}self_attn\.qkv\.", f"{_BLOCK}attn.in_proj_"),
    (rf"{_LAYER}self_attn\.projection\.", f"{_BLOCK}attn.out_proj."),
    (rf"{_LAYER}layer_norm(\d)\.", rf"{_BLOCK}ln_\2."),
    (rf"{_LAYER}mlp\.fc1\.", f"{_BLOCK}mlp.c_fc."),
    (rf"{_LAYER}mlp\.fc2\.", f"{_BLOCK}mlp.c_proj."),
    (r"vision_model\.post_layernorm\.", "visual.ln_post."),
    (r"vision_proj\.", "visual.proj."),
    (r"text_encoder\.", "text.bert."),
    (r"text_proj\.", "text.proj."),
)
# The matching head and the cross-attention that only it needs; positions are counted anew.
_UNUSED = re.compile(r"itm_head\.|text_encoder\.encoder\.layer\.\d+\.crossattention\.|.*\.position_ids$")


def rename_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a `BlipForImageTextRetrieval` under the names that `BlipModel` has for them, in fp32.

    Names that neither of them knows stay as they are.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if _UNUSED.match(name):
            continue
        for pattern, wanted in _RENAMED:
            found, count = re.subn(rf"^{pattern}", wanted, name)
            if count:
                name = found
                break
        if name == "visual.class_embedding":
            tensor = tensor.flatten()
        elif name == "visual.positional_embedding":
            tensor = tensor[0]
        renamed[name] = tensor.to(torch.float32, copy=True)  # what a file may back goes when the file is written anew
    return renamed
