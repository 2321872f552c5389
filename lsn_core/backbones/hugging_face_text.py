"""Text towers of the transformers library, as open_clip wraps them: RoBERTa, XLM-RoBERTa, BERT, mT5, NLLB."""

from __future__ import annotations

from typing import Any

import torch
from open_clip.hf_model import HFTextEncoder, MaxPooler
from torch import Tensor

from lsn_core.backbones.framing import Framing

_USE = "Use a model with open_clip's own text tower, such as ViT-B-16:openai."


class HuggingFaceText:
    """An encoder of the transformers library, which takes embeddings instead of ids; padding is masked, so cut off."""

    refusal: str | None = None

    @classmethod
    def fits(cls, module: Any) -> bool:
        """open_clip's wrapper of such an encoder."""
        return isinstance(module, HFTextEncoder)

    def __init__(self, module: Any, framing: Framing) -> None:
        self.module, self.framing = module, framing
        if not hasattr(getattr(module, "transformer", None), "get_input_embeddings"):
            self.refusal = f"it is a Hugging Face encoder without token embeddings. {_USE}"
        elif isinstance(module.pooler, MaxPooler):
            self.refusal = f"open_clip's pooling by the maximum does not run. {_USE}"

    @property
    def width(self) -> int:
        return int(self.module.transformer.get_input_embeddings().weight.shape[-1])

    @property
    def layers(self) -> int:
        config = self.module.config
        names = ("num_hidden_layers", "encoder_layers", "num_layers")
        return int(next((value for name in names if (value := getattr(config, name, None))), 12))

    def embed(self, ids: Tensor) -> Tensor:
        embeddings: Tensor = self.module.transformer.get_input_embeddings()(ids)
        return embeddings

    def find_eot(self, ids: Tensor) -> Tensor:
        return self.framing.find_end(ids)

    def find_padding(self, ids: Tensor) -> Tensor:
        return ids == self.module.config.pad_token_id

    def positions(self, tokens: int) -> int:
        return tokens

    def encode(self, x: Tensor, eot: Tensor, padding: Tensor | None = None) -> Tensor:
        text, eot = self.module, eot.to(x.device)
        length = int(eot.max()) + 1
        seen = torch.arange(length, device=x.device) <= eot[:, None]
        if padding is not None:
            hidden = padding[:, :length].to(x.device)
            seen[:, : hidden.shape[1]] &= ~hidden
        mask = seen.long()
        out = text.transformer(inputs_embeds=x[:, :length], attention_mask=mask, **self._places(mask))
        features: Tensor = text.proj(text.pooler(out, mask))
        return features

    def _places(self, mask: Tensor) -> dict[str, Tensor]:
        """Position ids where the encoder counts them from the padding, as RoBERTa does; it cannot see it here."""
        embeddings: Any = getattr(self.module.transformer, "embeddings", None)
        if not hasattr(embeddings, "create_position_ids_from_input_ids"):
            return {}
        return {"position_ids": mask.cumsum(dim=1) * mask + int(embeddings.padding_idx)}
