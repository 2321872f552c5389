"""Any open_clip model as two things: an image tower, and a text tower that takes learned prompts."""

from __future__ import annotations

import hashlib
import logging
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, cast

import open_clip
import torch
import torch.nn.functional as F
from open_clip.hf_model import HFTextEncoder
from PIL import Image
from torch import Tensor, nn

from lsn_core.backbones.identity import Weights, digest, earlier_versions_agree, image_settings, text_settings
from lsn_core.backbones.preprocessing import Preprocessing
from lsn_core.backbones.runtime import ImageRuntime
from lsn_core.backbones.unprojected import last_map, pooled_features, project_pooled
from lsn_core.errors import UserError

log = logging.getLogger(__name__)

_HALF_PAIR = re.compile("[\ud800-\udfff]")
_CPU_BATCH = 8  # pictures in one pass of PyTorch on a CPU: more fall out of its caches


class Backbone:
    """A frozen CLIP: pictures and texts to L2-normalised fp32 features of one space.

    Build one with `load_backbone` (weights by name) or `Backbone(model, name, tokenizer)` (a model in hand).

    Attributes:
        name: the name it was loaded by, as stored in detector files.
        model: the open_clip model, frozen, in eval mode, fp32.
        dim: D, the size of the shared feature space.
        width: size of a token embedding, which is also that of a learned context vector.
        context_length: the longest prompt in tokens, start and end tokens included.
        temperature: τ of the model's own softmax, 1 / exp(logit_scale).
        runtime: what runs the image tower, PyTorch or a compiled one.
        assumed: sentences on what its name and files left open when it was loaded, such as the activation.

    Examples:
        >>> from lsn_core import load_backbone
        >>> backbone = load_backbone("embedded", device="cpu")
        >>> texts = backbone.encode_texts(["a photo of a dog", "a photo of a car"])
        >>> texts.shape == (2, backbone.dim)
        True
    """

    def __init__(
        self,
        model: nn.Module,
        name: str,
        tokenizer: Callable[..., Tensor],
        device: str | torch.device = "cpu",
        assumed: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.assumed = tuple(assumed)
        self.device = torch.device(device)
        # A cast, as open_clip's models declare few attribute types.
        self.model = cast(Any, model.eval().requires_grad_(False).to(self.device))
        # Convolutions run about twice as fast on a CPU with channels last.
        self.model.visual.to(memory_format=torch.channels_last)
        self.tokenizer = tokenizer
        self._preprocessing = Preprocessing(self.model.visual.preprocess_cfg)
        # CustomTextCLIP keeps its text tower under .text, CLIP keeps the parts on the model itself.
        self._text: Any = getattr(model, "text", model)
        self.context_length = int(getattr(model, "context_length", 77))
        self.temperature = float(1.0 / self.model.logit_scale.exp().mean())
        self._refusal = _why_not_promptable(self._text)
        self._passing = threading.Lock()
        self._weights = Weights(self.model)
        self.runtime = ImageRuntime(self.model, name, self.device, self._weights)

    @cached_property
    def dim(self) -> int:
        """D, the size of the shared feature space."""
        return int(self.encode_texts(["a"]).shape[-1])

    @property
    def promptable(self) -> bool:
        """Whether the text tower takes learned prompts (`encode_prompts`); texts it takes in any case."""
        return self._refusal is None

    @property
    def width(self) -> int:
        """Size of a token embedding."""
        self._require_promptable()
        return int(self._text.token_embedding.weight.shape[-1])

    @property
    def weights_hash(self) -> str:
        """SHA-256 (hex) over the names and values of all weights; they may still run as different functions."""
        return self._weights.hash

    @cached_property
    def settings(self) -> dict[str, dict[str, Any]]:
        """What decides its features beside the weights, of "image" and of "text"; kept in detector files, as JSON."""
        return {"image": image_settings(self.model), "text": text_settings(self.model, self.tokenizer)}

    @property
    def fingerprint(self) -> str:
        """Names the weights and everything else that changes features: equal fingerprints give equal features."""
        return f"{self._fingerprint}:bf16" if self.runtime.bf16 else self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        """Of the model in fp32.

        SHA-256 (hex) over weights and preprocessing, by which earlier versions kept features, then "." and 16 digits
        over the rest; where what they kept may be of another function, one SHA-256 over all of it.
        """
        preprocessing = sorted(self.model.visual.preprocess_cfg.items())
        earlier = hashlib.sha256(f"{self.weights_hash}{preprocessing}".encode()).hexdigest()
        if earlier_versions_agree(self.settings["image"], assumed=bool(self.assumed)):
            return f"{earlier}.{digest(self.settings)}"
        return hashlib.sha256(f"{earlier}{digest(self.settings)}".encode()).hexdigest()

    @cached_property
    def text_function(self) -> str:
        """16 hex digits over what decides the features of texts beside the weights, whichever release runs it."""
        return digest({name: value for name, value in self.settings["text"].items() if name != "libraries"})

    @property
    def texts_as_ever(self) -> bool:
        """Whether what earlier versions kept of its texts by the weights alone is of this very function."""
        return earlier_versions_agree(self.settings["text"], assumed=bool(self.assumed))

    def preprocess(self, image: Image.Image) -> Tensor:
        """An upright RGB picture as the image tower takes it: resized, cropped and normalised, shape (3, H, W)."""
        return self._preprocessing.normalise(self.crop(image)[None])[0].contiguous()

    def crop(self, image: Image.Image) -> Tensor:
        """An upright RGB picture (see `images.open_image`), resized and cropped: shape (H, W, 3), uint8."""
        return self._preprocessing.crop(image)

    @torch.no_grad()
    def encode_images(self, images: Sequence[Image.Image], batch_size: int = 32) -> Tensor:
        """Features of upright RGB pictures (see `images.open_image`).

        Returns:
            Shape (N, D), fp32, unit length, on the CPU.
        """
        parts = [
            self.encode_crops(torch.stack([self.crop(image) for image in images[start : start + batch_size]]))
            for start in range(0, len(images), batch_size)
        ]
        return torch.cat(parts) if parts else torch.empty(0, self.dim)

    @torch.no_grad()
    def encode_crops(self, crops: Tensor) -> Tensor:
        """Features of what `crop` gives, (N, H, W, 3), uint8, N >= 1: (N, D), fp32, unit length, on the CPU.

        May be called by several threads: where a compiled tower does it they run side by side, else one by one.
        """
        if self.runtime.compiled is not None:
            return self.runtime.compiled(crops)
        with self._passing:  # two passes of PyTorch at once would only halve each other's speed
            if self.device.type != "cpu":
                return self.encode_pixels(self._preprocessing.normalise(crops.to(self.device)))
            # Filled up, as sums depend on the size of a pass in their last bits; one photo alone should not wait for 8.
            count = len(crops)
            if count > _CPU_BATCH and count % _CPU_BATCH:
                crops = torch.cat([crops, crops[: _CPU_BATCH - count % _CPU_BATCH]])
            parts = [self.encode_pixels(self._preprocessing.normalise(part)) for part in crops.split(_CPU_BATCH)]
            return torch.cat(parts)[:count]

    def expect(self, images: int) -> None:
        """Says that about so many images are to be encoded; the image tower is compiled where that saves time."""
        self.runtime.expect(images)

    @torch.no_grad()
    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """Features of pictures that `preprocess` has made ready, (N, 3, H, W), as `encode_images` gives them."""
        return F.normalize(self.model.encode_image(pixels.to(self.device)).float(), dim=-1).cpu()

    @torch.no_grad()
    def encode_images_before_projection(self, images: Sequence[Image.Image], batch_size: int = 32) -> Tensor:
        """Pooled features of upright RGB pictures, before the projection to the space of the texts.

        Args:
            images: at least one picture.

        Returns:
            Shape (N, P), fp32, not of unit length, on the CPU; `project_images` takes them on to `encode_images`' own.

        Raises:
            UserError: this kind of image tower does not pool and then project.
        """
        visual = self.model.visual
        return torch.cat(
            [pooled_features(visual, x, self.name).float().cpu() for x in self._batches(images, batch_size)]
        )

    @torch.no_grad()
    def project_images(self, pooled: Tensor) -> Tensor:
        """Pooled features (N, P), not of unit length -> image features (N, D), fp32, unit length, on the CPU."""
        return project_pooled(self.model.visual, pooled.to(self.device)).cpu()

    @torch.no_grad()
    def encode_image_maps(self, images: Sequence[Image.Image], batch_size: int = 32) -> Tensor:
        """Features of upright RGB pictures before pooling, one for each place.

        Args:
            images: at least one picture.

        Returns:
            Shape (N, channels, h, w), fp32, on the CPU: the last map of a convolutional tower, in a ViT what the last
            block leaves at the patches.

        Raises:
            UserError: this kind of image tower has no map.
        """
        visual = self.model.visual
        return torch.cat([last_map(visual, x, self.name).float().cpu() for x in self._batches(images, batch_size)])

    def _batches(self, images: Sequence[Image.Image], batch_size: int) -> Iterator[Tensor]:
        for start in range(0, len(images), batch_size):
            pixels = torch.stack([self.preprocess(image) for image in images[start : start + batch_size]])
            yield pixels.to(self.device)  # (B, 3, H, W)

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str], batch_size: int = 256) -> Tensor:
        """Features of texts.

        Returns:
            Shape (N, D), fp32, unit length, on the CPU.

        Raises:
            UserError: a text has more tokens than the tower has positions, or holds half a surrogate pair.
        """
        if not texts:
            return torch.empty(0, self.dim)
        tokens = self.tokenize(texts).to(self.device)
        parts = []
        for part in tokens.split(batch_size):
            if self._refusal:
                features = F.normalize(self.model.encode_text(part).float(), dim=-1)
            else:
                features = self.encode_prompts(self.embed_tokens(part), self.find_eot(part))
            parts.append(features.cpu())
        return torch.cat(parts)

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Token ids, shape (N, context_length). Raises UserError for a text that does not fit, rather than cut it."""
        for text in texts:
            if _HALF_PAIR.search(text):
                raise UserError(f"The text {text[:60]!a} holds half a surrogate pair, which is no letter. Take it out.")
        # Only open_clip's own tokenizer frames a text with exactly one start and one end token.
        if isinstance(self.tokenizer, open_clip.SimpleTokenizer):
            for text in texts:
                if (count := len(self.tokenizer.encode(text)) + 2) > self.context_length:
                    raise UserError(
                        f"The text {text[:60]!r}... has {count} tokens, but {self.name} reads at most "
                        f"{self.context_length}. Shorten it."
                    )
        return self.tokenizer(list(texts), context_length=self.context_length)

    def find_eot(self, tokens: Tensor) -> Tensor:
        """Position of each text's end token, whose output is the text's feature: (N, n) ids -> (N,)."""
        if self._text_pool == "eos":
            return (tokens == self._text_eos).int().argmax(dim=-1)
        return tokens.argmax(dim=-1)  # the end token has the largest id

    def embed_tokens(self, tokens: Tensor) -> Tensor:
        """Token embeddings without positions: (..., n) ids -> (..., n, width). What learned contexts are put among."""
        self._require_promptable()
        return self._text.token_embedding(tokens.to(self.device))

    def encode_prompts(self, token_embeddings: Tensor, eot: Tensor) -> Tensor:
        """Runs the text tower on given token embeddings; differentiable in them.

        The tower is causal, so nothing behind the last end token can reach the result: it is cut off, exactly.

        Args:
            token_embeddings: shape (B, n, width), n <= context_length, without positional embeddings.
            eot: position of the end token of each prompt, shape (B,), in [0, n).

        Returns:
            Shape (B, D), fp32, unit length, on the backbone's device.

        Raises:
            UserError: this text tower cannot be prompted (not causal, or a Hugging Face encoder).
        """
        self._require_promptable()
        text = self._text
        length = int(eot.max()) + 1
        dtype = text.transformer.get_cast_dtype()
        x = token_embeddings[:, :length].to(dtype) + text.positional_embedding[:length].to(dtype)
        x = text.transformer(x, attn_mask=text.attn_mask[:length, :length])  # (B, length, width)
        # Final norm and projection act on each position alone, so the end token is picked first.
        return self.project_text(x[torch.arange(len(x), device=x.device), eot.to(x.device)])

    @property
    def text_tower(self) -> Any:
        """The open_clip module that holds the text transformer and its embeddings. Raises UserError as above."""
        self._require_promptable()
        return self._text

    def project_text(self, x: Tensor) -> Tensor:
        """The transformer's outputs at the end tokens, (B, width) -> text features (B, D), fp32, unit length."""
        x = self._text.ln_final(x)
        projection = self._text.text_projection
        if isinstance(projection, nn.Linear):
            x = projection(x)
        elif projection is not None:
            x = x @ projection
        return F.normalize(x if x.dtype == torch.float64 else x.float(), dim=-1)

    @property
    def _text_pool(self) -> str:
        return str(getattr(self._text, "pool_type", None) or getattr(self._text, "text_pool_type", "argmax"))

    @property
    def _text_eos(self) -> int:
        return int(getattr(self._text, "eos_id", None) or self._text.text_eos_id)

    def _require_promptable(self) -> None:
        if self._refusal:
            raise UserError(f"The text tower of {self.name} cannot take learned prompts: {self._refusal}")


def _why_not_promptable(text: Any) -> str | None:
    if isinstance(text, HFTextEncoder):
        return "it is a Hugging Face encoder. Use a model with open_clip's own text tower, such as ViT-B-16:openai."
    if getattr(text, "attn_mask", None) is None:
        return "its attention is not causal. Use a causal model such as ViT-B-16:openai."
    if getattr(text, "cls_emb", None) is not None:
        return "it reads its feature from an extra class token. Use a model such as ViT-B-16:openai."
    pool = getattr(text, "pool_type", None) or getattr(text, "text_pool_type", "argmax")
    if pool not in ("argmax", "eos"):
        return f"it pools by {pool!r} instead of the end token. Use a model such as ViT-B-16:openai."
    return None
