"""Any open_clip model as two things: an image tower, and a text tower that takes learned prompts."""

from __future__ import annotations

import hashlib
import logging
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from open_clip.hf_model import HFTextEncoder
from PIL import Image
from torch import Tensor, nn

from lsn_core.backbones.framing import Framing
from lsn_core.backbones.identity import Weights, digest, earlier_versions_agree, image_settings, text_settings
from lsn_core.backbones.preprocessing import Preprocessing
from lsn_core.backbones.runtime import ImageRuntime
from lsn_core.backbones.text_towers import text_kind
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
        bias: b of a model trained with a sigmoid, as SigLIP is: it takes a pair for one with the probability
            sigmoid(cosine / τ + b); None of a model trained with a softmax.
        text: what its text tower needs to run prompts with learned vectors.
        framing: what its tokenizer puts around a text.
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
        self.context_length = _context_length(model, tokenizer)
        self._read = partial(_read, tokenizer, self.context_length)  # no circle: memory is free when the backbone goes
        self.framing = Framing(self._read)
        self.text = text_kind(self.model, self.framing)
        self.temperature = float(1.0 / self.model.logit_scale.exp().mean())
        bias = getattr(self.model, "logit_bias", None)
        self.bias = None if bias is None else float(bias.mean())
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
        return self.text.refusal is None

    @property
    def width(self) -> int:
        """Size of a token embedding."""
        self._require_promptable()
        return self.text.width

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

        May be called by several threads: where a compiled tower does it they run side by side, on a GPU one is copied
        while another is computed, else one by one.
        """
        if self.runtime.compiled is not None:
            return self.runtime.compiled(crops)
        if self.device.type == "cuda":
            crops = crops.pin_memory()
            with self._passing:
                features = self._encode_pixels(self._preprocessing.normalise(crops.to(self.device, non_blocking=True)))
                found = torch.empty(features.shape, pin_memory=True)
                found.copy_(features, non_blocking=True)
                done = torch.cuda.Event()
                done.record()
            done.synchronize()
            return found
        with self._passing:  # two passes of PyTorch at once would only halve each other's speed
            if self.device.type != "cpu":
                return self.encode_pixels(self._preprocessing.normalise(crops.to(self.device)))
            # Filled up, as sums depend on the size of a pass in their last bits; one photo alone should not wait for 8.
            count = len(crops)
            if count > _CPU_BATCH and count % _CPU_BATCH:
                crops = torch.cat([crops, crops[: _CPU_BATCH - count % _CPU_BATCH]])
            parts = [self.encode_pixels(self._preprocessing.normalise(part)) for part in crops.split(_CPU_BATCH)]
            return torch.cat(parts)[:count]

    @property
    def passes(self) -> int:
        """How many calls of `encode_crops` at once keep the image tower busy: 2 on a GPU, else 1."""
        return 2 if self.device.type == "cuda" else 1

    def expect(self, images: int) -> None:
        """Says that about so many images are to be encoded; the image tower is compiled where that saves time."""
        self.runtime.expect(images)

    @torch.no_grad()
    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """Features of pictures that `preprocess` has made ready, (N, 3, H, W), as `encode_images` gives them."""
        return self._encode_pixels(pixels.to(self.device)).cpu()

    def _encode_pixels(self, pixels: Tensor) -> Tensor:
        half = self.runtime.bf16 and self.device.type == "cuda"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            return F.normalize(self.model.encode_image(pixels).float(), dim=-1)

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
            if self.promptable:
                features = self.encode_prompts(
                    self.embed_tokens(part), self.find_eot(part), self.text.find_padding(part)
                )
            else:
                features = F.normalize(self.model.encode_text(part).float(), dim=-1)
            parts.append(features.cpu())
        return torch.cat(parts)

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Token ids, shape (N, context_length). Raises UserError for a text that does not fit, rather than cut it."""
        for text in texts:
            if _HALF_PAIR.search(text):
                raise UserError(f"The text {text[:60]!a} holds half a surrogate pair, which is no letter. Take it out.")
        tokens = self._read(texts)
        if len(texts):  # a text that fits is the same with one position more
            longer = self.tokenizer(list(texts), context_length=self.context_length + 1)
            inside = self.context_length - self.framing.tail
            for text, fits in zip(texts, (longer[:, :inside] == tokens[:, :inside]).all(dim=1).tolist(), strict=True):
                if not fits:
                    raise UserError(
                        f"The text {text[:60]!r}... has {self._count(text)} tokens, but {self.name} reads at most "
                        f"{self.context_length}. Shorten it."
                    )
        return tokens

    def _count(self, text: str) -> int:
        longest = self.tokenizer([text], context_length=self.context_length + 4 * len(text.encode()) + 8)
        return int(Framing(lambda texts: self.tokenizer(texts, context_length=longest.shape[1])).find_end(longest)) + 1

    def find_eot(self, tokens: Tensor) -> Tensor:
        """Position of the last token of each text's own, the end token where there is one: (N, n) ids -> (N,)."""
        return self.text.find_eot(tokens)

    def embed_tokens(self, tokens: Tensor) -> Tensor:
        """Token embeddings without positions: (..., n) ids -> (..., n, width). What learned contexts are put among."""
        self._require_promptable()
        return self.text.embed(tokens.to(self.device))

    def encode_prompts(self, token_embeddings: Tensor, eot: Tensor, padding: Tensor | None = None) -> Tensor:
        """Runs the text tower on given token embeddings; differentiable in them.

        What stands behind the last token of a prompt's own is padding to the tower, whatever is given there.

        Args:
            token_embeddings: shape (B, n, width), n <= context_length, without positional embeddings.
            eot: position of the last token of each prompt's own, shape (B,), in [0, n).
            padding: which of the tokens the tower takes for padding by their id (`TextKind.find_padding`), shape
                (B, n); None for none.

        Returns:
            Shape (B, D), fp32, unit length, on the backbone's device.

        Raises:
            UserError: this text tower cannot be prompted; says why.
        """
        self._require_promptable()
        return F.normalize(self.text.encode(token_embeddings, eot, padding).float(), dim=-1)

    @property
    def text_tower(self) -> Any:
        """The open_clip module that holds the text transformer and its embeddings. Raises UserError as above."""
        self._require_promptable()
        return self.text.module

    def _require_promptable(self) -> None:
        if self.text.refusal:
            raise UserError(f"The text tower of {self.name} cannot take learned prompts: {self.text.refusal}")


def _read(tokenizer: Callable[..., Tensor], length: int, texts: Sequence[str]) -> Tensor:
    return tokenizer(list(texts), context_length=length)


def _context_length(model: nn.Module, tokenizer: Any) -> int:
    """The longest text in tokens; a Hugging Face encoder names all positions that it has, or none."""
    if isinstance(getattr(model, "text", None), HFTextEncoder) and (own := getattr(tokenizer, "context_length", None)):
        return int(own)
    return int(getattr(model, "context_length", None) or 77)
