"""open_clip's architectures at random weights, with tokenizers made here: what can be run of them without a download.

A tokenizer's vocabulary is a stand-in of some words and all letters; its class, its special tokens with their ids and
what it puts around a text are those of the published one.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.tokenizer import HFTokenizer

from lsn_core.backbones.backbone import Backbone

_SENTENCE = "a photo of the cat dog small great white shark green lawn not very car bird and blurry red"
WORDS = _SENTENCE.split()
LETTERS = [chr(code) for code in range(33, 127)]
# Configurations of published Hugging Face encoders, whose config.json is a download; sizes as published.
HUGGING_FACE: dict[str, dict[str, Any]] = {
    "roberta-base": {
        "model_type": "roberta",
        "vocab_size": 50265,
        "max_position_embeddings": 514,
        "type_vocab_size": 1,
        "layer_norm_eps": 1e-5,
    },
    "xlm-roberta-base": {
        "model_type": "xlm-roberta",
        "vocab_size": 250002,
        "max_position_embeddings": 514,
        "type_vocab_size": 1,
        "layer_norm_eps": 1e-5,
    },
    "facebook/nllb-200-distilled-600M": {
        "model_type": "m2m_100",
        "vocab_size": 256206,
        "d_model": 1024,
        "encoder_layers": 12,
        "decoder_layers": 12,
        "encoder_ffn_dim": 4096,
        "decoder_ffn_dim": 4096,
        "scale_embedding": True,
    },
    "google/mt5-base": {
        "model_type": "mt5",
        "vocab_size": 250112,
        "d_model": 768,
        "d_ff": 2048,
        "num_layers": 12,
        "num_heads": 12,
        "feed_forward_proj": "gated-gelu",
        "tie_word_embeddings": False,
    },
}
HUGGING_FACE["xlm-roberta-large"] = HUGGING_FACE["xlm-roberta-base"] | {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}
HUGGING_FACE["facebook/nllb-200-distilled-1.3B"] = HUGGING_FACE["facebook/nllb-200-distilled-600M"] | {
    "encoder_layers": 24,
    "decoder_layers": 24,
    "encoder_ffn_dim": 8192,
    "decoder_ffn_dim": 8192,
}
HUGGING_FACE["google/mt5-xl"] = HUGGING_FACE["google/mt5-base"] | {
    "d_model": 2048,
    "d_ff": 5120,
    "num_layers": 24,
    "num_heads": 32,
}
_FEWER = {"num_hidden_layers": 2, "encoder_layers": 2, "decoder_layers": 1, "num_layers": 2, "num_decoder_layers": 1}
_SMALL_VISION = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}


def stand_in(
    arch: str, folder: Path, reduced: bool = False, vocabulary: int | None = None, quick_gelu: bool | None = None
) -> Backbone:
    """An architecture at random weights.

    Args:
        arch: one of `open_clip.list_models()`.
        folder: an empty one for its configuration and tokenizer.
        reduced: two layers of its text tower behind a tiny image tower; otherwise all of it.
        vocabulary: how many rows its token embeddings get, for a Hugging Face tokenizer; None for its own.
        quick_gelu: whether QuickGELU is its activation; None as its configuration has it.
    """
    config: dict[str, Any] = copy.deepcopy(open_clip.get_model_config(arch))
    text = config["text_cfg"]
    if quick_gelu is not None:
        config["quick_gelu"] = quick_gelu
    if reduced:
        config["vision_cfg"] = dict(_SMALL_VISION)
        if "multimodal_cfg" in config:
            config["vision_cfg"] |= {"attentional_pool": True, "attn_pooler_heads": 8, "output_tokens": True}
            config["multimodal_cfg"]["layers"] = 1
        text["layers"] = 2
    if tokenizer := text.get("hf_tokenizer_name"):
        make_tokenizer(folder, tokenizer)
        text["hf_tokenizer_name"] = "here"
        if vocabulary:
            text["vocab_size"] = vocabulary
    if hugging_face := text.get("hf_model_name"):
        described = HUGGING_FACE[hugging_face] | (_FEWER if reduced else {})
        described |= {"vocab_size": vocabulary} if vocabulary else {}
        described |= _special_ids(folder)
        (folder / "config.json").write_text(json.dumps(described), encoding="utf-8")
        text["hf_model_name"] = str(folder)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    torch.manual_seed(0)
    name = f"local-dir:{folder}"
    model = open_clip.create_model(name, load_weights=False, pretrained_image=False, pretrained_text=False)
    return Backbone(model, f"{arch} (random weights)", open_clip.get_tokenizer(name))


def _special_ids(folder: Path) -> dict[str, int]:
    tokenizer = HFTokenizer(str(folder)).tokenizer
    return {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}


def make_tokenizer(folder: Path, name: str) -> None:
    """Writes a stand-in of a published tokenizer, in the files that transformers reads."""
    kind = next(make for part, make in _TOKENIZERS if part in name)
    kind(folder)


def _sentence_pieces(folder: Path, special: list[str], template: str, eos: str, pad: str, **more: str) -> None:
    """A unigram model as sentencepiece makes them; special tokens have the first ids."""
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors

    pieces = [*special, *(f"▁{word}" for word in WORDS), "▁", *LETTERS]
    scores = [(piece, -1.0 if piece.startswith("▁") and len(piece) > 1 else -5.0) for piece in pieces]
    tokenizer = Tokenizer(models.Unigram(scores, unk_id=special.index("<unk>")))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    ids = [(token, special.index(token)) for token in template.split() if token != "$A"]
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=ids)
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    _save(tokenizer, folder, eos_token=eos, pad_token=pad, unk_token="<unk>", **more)


def _word_pieces(folder: Path) -> None:
    """BERT's: padding is 0, [CLS] 101 and [SEP] 102."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    special = ["[PAD]", *(f"[unused{n}]" for n in range(99)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*special, *WORDS, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 101), ("[SEP]", 102)]
    )
    _save(tokenizer, folder, cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]", unk_token="[UNK]")


def _save(tokenizer: Any, folder: Path, **special: str) -> None:
    from transformers import PreTrainedTokenizerFast

    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(str(folder))


def _t5(folder: Path, pad: str = "<pad>") -> None:
    _sentence_pieces(folder, ["<pad>", "</s>", "<unk>"], "$A </s>", eos="</s>", pad=pad)


def _roberta(folder: Path) -> None:
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    _sentence_pieces(folder, special, "<s> $A </s>", eos="</s>", pad="<pad>", bos_token="<s>", sep_token="</s>")


def _nllb(folder: Path) -> None:
    special = ["<s>", "<pad>", "</s>", "<unk>", "eng_Latn"]
    _sentence_pieces(folder, special, "eng_Latn $A </s>", eos="</s>", pad="<pad>")


def _gemma(folder: Path) -> None:
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    _sentence_pieces(folder, special, "$A <eos>", eos="<eos>", pad="<pad>")


# SigLIP pads with its end token, SigLIP2 with a token of its own. The first that a name holds is taken.
_TOKENIZERS: tuple[tuple[str, Callable[[Path], None]], ...] = (
    ("SigLIP2", _gemma),
    ("SigLIP", lambda folder: _t5(folder, pad="</s>")),
    ("bert-base-uncased", _word_pieces),
    ("nllb", _nllb),
    ("mt5", _t5),
    ("roberta", _roberta),
    ("xlm", _roberta),
)
