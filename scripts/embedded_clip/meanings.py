"""Where words without an anchor of their own lie: kernel ridge regression over WordNet's tree and MPNet embeddings."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor

from scripts.embedded_clip.wordnet import WordNet

log = logging.getLogger(__name__)


@dataclass
class Meanings:
    """Directions of synsets, unit length: `vectors[i]` is that of `offsets[i]`."""

    offsets: list[int]
    vectors: Tensor  # (S, D)

    def index(self) -> dict[int, int]:
        """Row of each offset."""
        return {offset: i for i, offset in enumerate(self.offsets)}


def tree_features(net: WordNet, offsets: list[int], decay: float = 0.7) -> sp.csr_matrix:
    """One row a synset over all synsets above it (itself included), rarer ones weighted up; unit length."""
    columns: dict[int, int] = {}
    rows, cols, values = [], [], []
    for row, offset in enumerate(offsets):
        for ancestor, steps in net.ancestors(offset).items():
            rows.append(row)
            cols.append(columns.setdefault(ancestor, len(columns)))
            values.append(decay**steps)
    matrix = sp.csr_matrix((values, (rows, cols)), shape=(len(offsets), len(columns)))
    rarity = np.log(len(offsets) / np.maximum(1, matrix.getnnz(axis=0)))
    matrix = matrix @ sp.diags(rarity)
    norms = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    return sp.csr_matrix(sp.diags(1.0 / np.maximum(norms, 1e-9)) @ matrix)


def place_synsets(
    net: WordNet,
    offsets: list[int],
    glosses: Tensor,
    observed: dict[int, Tensor],
    kinds: dict[int, Tensor],
    counts: dict[int, int],
    mixes: tuple[float, ...] = (0.3, 0.5, 0.7),
    ridges: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3),
) -> Meanings:
    """Directions of all `offsets` from the `observed` ones, by kernel ridge regression.

    Its mix of tree and gloss similarity and its ridge are those with the best leave-one-out result. Kinds keep their
    own direction, drawn towards the regression where few classes stand for them: a sorrel alone does not make a horse.

    Args:
        offsets: S synset offsets.
        glosses: MPNet embeddings of name and gloss, shape (S, 768).
        observed: anchors of classes, by offset, each (D,).
        kinds: directions of synsets above them, and `counts`, how many classes each holds.
    """
    row = {offset: i for i, offset in enumerate(offsets)}
    seen = [offset for offset in observed if offset in row]
    at = np.array([row[o] for o in seen])
    anchors = F.normalize(torch.stack([observed[o] for o in seen]), dim=-1).double().numpy()
    centre = anchors.mean(0)
    tree = tree_features(net, offsets)
    k_tree = (tree @ tree[at].T).toarray()
    k_text = (glosses @ glosses[at].T).double().numpy()
    best: tuple[float, float, float] | None = None
    for mix in mixes:
        kernel = mix * k_tree[at] + (1 - mix) * k_text[at]
        for ridge in ridges:
            inverse = np.linalg.inv(kernel + ridge * np.eye(len(at)))
            left_out = (anchors - centre) - (inverse @ (anchors - centre)) / np.diag(inverse)[:, None]
            # Leave-one-out direction, scored by whether it finds its own anchor among all: what classification needs.
            guess = left_out + centre
            similarity = (guess / np.linalg.norm(guess, axis=1, keepdims=True)) @ anchors.T
            place = (similarity > np.diag(similarity)[:, None]).sum(1)
            score = float((1.0 / (1.0 + place)).mean())
            if best is None or score > best[0]:
                best = (score, mix, ridge)
    assert best is not None
    log.info(
        "meanings: leave-one-out reciprocal rank %.3f among %d at mix %.1f, ridge %.2f", best[0], len(at), *best[1:]
    )
    _, mix, ridge = best
    kernel = mix * k_tree + (1 - mix) * k_text
    weights = np.linalg.solve(kernel[at] + ridge * np.eye(len(at)), anchors - centre)
    regressed = torch.from_numpy(kernel @ weights + centre).float()
    vectors = F.normalize(regressed, dim=-1)
    for offset in seen:
        vectors[row[offset]] = F.normalize(observed[offset], dim=-1)
    for offset, direction in kinds.items():
        count = counts[offset]
        mixed = count * F.normalize(direction, dim=-1) + vectors[row[offset]]
        vectors[row[offset]] = F.normalize(mixed, dim=-1)
    return Meanings(offsets, vectors)
