"""Captions for the text tower with the direction that each should have."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from open_clip import IMAGENET_CLASSNAMES, OPENAI_IMAGENET_TEMPLATES, SimpleTokenizer
from torch import Tensor

from lsn_core.prompts.written import fill

TEMPLATES = [template("{}").rstrip(".") for template in OPENAI_IMAGENET_TEMPLATES]
NEGATIONS = (
    "not a photo of a {}",
    "a photo with no {}",
    "a photo without a {}",
    "this is not a photo of a {}",
    "anything but a {}",
    "no {}",
)
PLAIN = "a photo of a {}"
MAX_PREFIX = 20
# How often each kind of caption is drawn. The prefixes make the tower promptable: a learned context of 4 or 16 vectors
# before a name must not be something it has never met.
TYPOS = 0.03
KINDS = {"bare": 0.12, "plain": 0.22, "template": 0.26, "words": 0.16, "noise": 0.14, "negated": 0.05, "pair": 0.05}


@dataclass
class Batch:
    """Token ids (B, n), where each ends (B,), its direction (B, D), and how many leading tokens are noise vectors."""

    tokens: Tensor
    eot: Tensor
    target: Tensor
    noise: int


class Vocabulary:
    """Names with their directions and how often each is drawn."""

    def __init__(self, tiers: list[tuple[float, dict[str, Tensor]]]) -> None:
        names: list[str] = []
        targets: list[Tensor] = []
        weights: list[float] = []
        taken: set[str] = set()
        for share, entries in tiers:  # an earlier tier's meaning of a name wins
            fresh = {name: target for name, target in entries.items() if name.lower() not in taken}
            taken |= {name.lower() for name in fresh}
            names += fresh
            targets += list(fresh.values())
            weights += [share / max(1, len(fresh))] * len(fresh)
        self.names = names
        self.targets = F.normalize(torch.stack(targets), dim=-1)
        self.weights = np.array(weights) / np.sum(weights)


def imagenet_names(clean: list[str], lemmas: list[list[str]]) -> list[list[str]]:
    """All names of each of the 1,000 classes: the data set's, open_clip's and WordNet's, the clean one first."""
    return [
        list(dict.fromkeys([clean[i], IMAGENET_CLASSNAMES[i], *lemmas[i]])) for i in range(len(IMAGENET_CLASSNAMES))
    ]


class CaptionSampler:
    """Draws batches of one kind of caption each, so that all in a batch are about as long."""

    def __init__(self, words: Vocabulary, negation_shift: dict[str, Tensor], seed: int, token_budget: int) -> None:
        self.words, self.shift, self.budget = words, negation_shift, token_budget
        self.rng = np.random.default_rng(seed)
        self.tokenizer = SimpleTokenizer()
        self.ids = [self.tokenizer.encode(name) for name in words.names]
        index = {name: i for i, name in enumerate(words.names)}
        self.negatable = np.array([index[name] for name in negation_shift if name in index])
        self._memo: dict[tuple[str, str], tuple[list[int], list[int]]] = {}

    def draw(self) -> Batch:
        """One batch."""
        kind = self.rng.choice(list(KINDS), p=list(KINDS.values()))
        prefix = int(self.rng.integers(1, MAX_PREFIX + 1)) if kind in ("words", "noise") else 0
        length = {"bare": 5, "plain": 9, "template": 13, "negated": 12, "pair": 13}.get(kind, prefix + 6)
        count = max(64, self.budget // length)
        if kind == "negated":
            picked = self.rng.choice(self.negatable, count)
        else:
            picked = self.rng.choice(len(self.words.names), count, p=self.words.weights)
        target = self.words.targets[picked]
        rows: list[list[int]] = []
        if kind == "negated":
            which = self.rng.integers(len(NEGATIONS), size=count)
            names = [self.words.names[i] for i in picked]
            target = target + torch.stack([self.shift[name][w] for name, w in zip(names, which, strict=True)])
            rows = [self._fill(NEGATIONS[w], i) for w, i in zip(which, picked, strict=True)]
        elif kind == "pair":
            other = self.rng.choice(len(self.words.names), count, p=self.words.weights)
            target = target + self.words.targets[other]
            rows = [self._fill(PLAIN, i) + self._fill("and a {}", j) for i, j in zip(picked, other, strict=True)]
        elif kind == "bare":
            rows = [self._name(i) for i in picked]
        elif kind == "plain":
            rows = [self._fill(PLAIN, i) for i in picked]
        elif kind == "template":
            which = self.rng.integers(len(TEMPLATES), size=count)
            rows = [self._fill(TEMPLATES[w], i) for w, i in zip(which, picked, strict=True)]
        else:
            noise = self.rng.integers(1000, 40000, size=(count, prefix))
            rows = [list(noise[r]) + self._name(i) for r, i in enumerate(picked)]
        stop = self.tokenizer.encode(".")
        rows = [row + stop if self.rng.random() < 0.4 else row for row in rows]
        start, end = self.tokenizer.sot_token_id, self.tokenizer.eot_token_id
        eot = torch.tensor([min(len(row), 75) + 1 for row in rows])
        tokens = torch.zeros(count, int(eot.max()) + 1, dtype=torch.long)
        for r, row in enumerate(rows):
            tokens[r, : eot[r] + 1] = torch.tensor([start, *row[:75], end])
        return Batch(tokens, eot, F.normalize(target, dim=-1), prefix if kind == "noise" else 0)

    def state(self) -> dict[str, Any]:
        """The random state, which `restore` takes back."""
        return dict(self.rng.bit_generator.state)

    def restore(self, state: dict[str, Any]) -> None:
        """Draws on from a state."""
        self.rng.bit_generator.state = state

    def _fill(self, template: str, i: int) -> list[int]:
        # The article is the one that the library writes: "an elephant".
        article = fill("a {}", self.words.names[i]).split(" ")[0]
        if (template, article) not in self._memo:
            before, _, after = re.sub(r"\ban? \{\}", article + " {}", template).partition("{}")
            self._memo[template, article] = (self.tokenizer.encode(before), self.tokenizer.encode(after))
        start, end = self._memo[template, article]
        return start + self._name(i) + end

    def _name(self, i: int) -> list[int]:
        if self.rng.random() >= TYPOS or len(name := self.words.names[i]) < 5:
            return self.ids[i]
        at = int(self.rng.integers(1, len(name) - 1))  # a letter left out, doubled, or changed with the next one
        wrong = ("", name[at] * 2, name[at + 1] + name[at])[self.rng.integers(3)]
        rest = at + (2 if len(wrong) == 2 and wrong[0] != wrong[1] else 1)
        return self.tokenizer.encode(name[:at] + wrong + name[rest:])
