"""What the text tower is taught: names with their directions, and how far a negation moves a caption."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from lsn_core.prompts.written import fill
from scripts.embedded_clip.anchors import Space
from scripts.embedded_clip.captions import NEGATIONS, PLAIN, Vocabulary, imagenet_names
from scripts.embedded_clip.meanings import Meanings, place_synsets
from scripts.embedded_clip.photos import Kinds, Photos
from scripts.embedded_clip.wordnet import WordNet
from scripts.embedded_clip.words import embed_sentences

log = logging.getLogger(__name__)


def place_words(
    net: WordNet,
    offsets: list[int],
    nouns: list[tuple[str, int]],
    space: Space,
    kinds: Kinds,
    held_out: set[int],
    work: Path,
) -> Meanings:
    """Directions of all synsets in play, from the anchors of the ImageNet classes that may be seen."""
    synsets = sorted({o for _, o in nouns} | set(offsets) | {a for o in offsets for a in net.ancestors(o)})
    texts = [f"{', '.join(net.synsets[o].names[:3])}: {net.synsets[o].gloss}" for o in synsets]
    glosses = embed_sentences(texts, work / "glosses.npz")
    observed = {offset: space.anchors[i] for i, offset in enumerate(offsets) if i not in held_out}
    above = dict(zip(kinds.offsets, space.kinds, strict=True))
    counts = dict(zip(kinds.offsets, kinds.members.sum(1).int().tolist(), strict=True))
    return place_synsets(net, synsets, glosses, observed, above, counts)


def make_vocabulary(
    net: WordNet,
    offsets: list[int],
    clean: list[str],
    nouns: list[tuple[str, int]],
    meanings: Meanings,
    photos: Photos,
    space: Space,
    kinds: Kinds,
) -> Vocabulary:
    """Names by how often they are taught: ImageNet's and the other sets', kinds, common nouns, all nouns, plurals."""
    row = meanings.index()
    direction = {offset: meanings.vectors[row[offset]] for offset in meanings.offsets}
    synonyms = imagenet_names(clean, [list(net.synsets[o].names) for o in offsets])
    gathered: dict[str, list[Tensor]] = {}
    for i, offset in enumerate(offsets):
        for name in synonyms[i][:2]:
            gathered.setdefault(name, []).append(direction[offset])
    first = {name: torch.stack(found).mean(0) for name, found in gathered.items()}
    own = [i for i in range(1000, len(photos.names)) if photos.has_anchor(i)]
    for i in own:  # a name that two sets share gets the mean of both meanings
        name = photos.names[i]
        first[name] = first[name] + space.anchors[i] if name in first else space.anchors[i]
    others = {name: first.pop(name) for name in dict.fromkeys(photos.names[i] for i in own)}
    second = {name: direction[o] for i, o in enumerate(offsets) for name in synonyms[i][2:]}
    above = set(kinds.offsets)
    general, common, rest = {}, {}, {}
    for name, offset in nouns:
        tier = general if offset in above else common if net.tagged[name] else rest
        tier[name] = direction[offset]
    plurals = {_plural(name): target for name, target in (general | others | first).items()}
    log.info(
        "names: %d of ImageNet, %d of other sets, %d of kinds, %d common, %d rare",
        *map(len, (first, others, general, common, rest)),
    )
    return Vocabulary(
        [(0.34, first), (0.12, others), (0.06, second), (0.20, general), (0.16, common), (0.08, rest), (0.04, plurals)]
    )


def _plural(name: str) -> str:
    if name.endswith(("s", "x", "z", "ch", "sh")):
        return name + "es"
    if name.endswith("y") and name[-2:-1] not in "aeiou":
        return name[:-1] + "ies"
    return name + "s"


def negation_shifts(words: Vocabulary, clean: list[str], work: Path) -> dict[str, Tensor]:
    """How far each negation moves a caption, (6, D) by name, as MPNet has it: which, like CLIP, is not far.

    A ridge map takes MPNet's embedding of "a photo of a X" to X's direction; the shift is what the same map makes of
    the difference between the negated sentence and the plain one.
    """
    index = {name: i for i, name in enumerate(words.names)}
    taught = [name for name in dict.fromkeys([*clean, *words.names[:2000]]) if name in index][:1000]
    plain = embed_sentences([fill(PLAIN, name) for name in taught], work / "plain.npz")
    negated = embed_sentences([fill(n, name) for name in taught for n in NEGATIONS], work / "negated.npz")
    targets = words.targets[[index[name] for name in taught]]
    mean = plain.mean(0)
    gram = (plain - mean).T @ (plain - mean) + 0.3 * torch.eye(plain.shape[1])
    ridge = torch.linalg.solve(gram, (plain - mean).T @ (targets - targets.mean(0)))
    shift = (negated.view(len(taught), len(NEGATIONS), -1) - plain[:, None]) @ ridge
    moved = F.normalize(targets[:, None] + shift, dim=-1)
    log.info("negation keeps a cosine of %.3f to the plain caption", (moved * targets[:, None]).sum(-1).mean())
    return dict(zip(taught, shift, strict=True))
