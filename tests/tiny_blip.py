"""A small BLIP with random weights, in a folder as the transformers library saves it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import BertTokenizerFast, BlipConfig, BlipForImageTextRetrieval, BlipImageProcessor, BlipProcessor

WORDS = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", ",", "a", "an", "the", "photo", "of", "not", "no", "dog"),
    *("cat", "horse", "##s", "air", "##plane", "ship", "without", "any", "in", "is", "there", "b", "c", "d", "e"),
    *("##a", "##b", "##c", "##d", "##e", "##f", "##g", "##h", "##i", "##k", "##l", "##m", "##n", "##o", "##p"),
    *("##r", "##t", "##u", "##v", "##w", "##x", "##y", "f", "g", "h", "i", "k", "l", "m", "n", "o", "p", "r", "s"),
    *("t", "u", "v", "w", "x", "y", "[DEC]", "[ENC]"),
)
SIDE, DIM = 48, 20
TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
VISION = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 3}


def tiny_config(**more: Any) -> BlipConfig:
    """Of a small BLIP, with whatever is to be otherwise."""
    words = {
        "vocab_size": len(WORDS),
        "max_position_embeddings": 40,
        "bos_token_id": WORDS.index("[DEC]"),
        "sep_token_id": WORDS.index("[SEP]"),
    }
    return BlipConfig(
        text_config={**TEXT, **words, **more.pop("text", {})},
        vision_config={**VISION, "image_size": SIDE, "patch_size": 8, **more.pop("vision", {})},
        image_text_hidden_size=DIM,
        **more,
    )


def random_blip(config: BlipConfig, seed: int = 0) -> BlipForImageTextRetrieval:
    """Transformers' own model, in eval mode; biases and norms are random, too, so that none is without effect."""
    torch.manual_seed(seed)
    with torch.device("meta"):  # it would take seconds to fill a large one with other random weights first
        model = BlipForImageTextRetrieval(config).eval()
    model.to_empty(device="cpu")
    embeddings = model.text_encoder.embeddings
    embeddings.position_ids.copy_(torch.arange(embeddings.position_ids.shape[1]))
    for name, tensor in model.named_parameters():
        scale = 1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0
        torch.nn.init.normal_(tensor, scale, 0.3 if tensor.ndim < 2 else 0.1)
    return model


def processor_in(folder: Path, side: int = SIDE) -> BlipProcessor:
    """A processor of these words, which is saved into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    words = BertTokenizerFast.from_pretrained(str(folder))
    processor = BlipProcessor(BlipImageProcessor(size={"height": side, "width": side}), words)
    processor.save_pretrained(folder)
    return processor


def save_tiny_blip(folder: Path, seed: int = 0, **more: Any) -> BlipForImageTextRetrieval:
    """Writes the folder; returns transformers' own model."""
    model = random_blip(tiny_config(**more), seed)
    processor_in(folder)
    model.save_pretrained(folder)
    return model


def change_config(folder: Path, **values: Any) -> None:
    """Sets values of config.json; those with a dot in their name are of a tower."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for name, value in values.items():
        part, _, own = name.rpartition("__")
        (config[part] if part else config)[own] = value
    path.write_text(json.dumps(config))
