"""Nouns of visible things and their text features: what NegLabel holds against the known classes."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lsn_core.atomic import write_safetensors
from lsn_core.backbones.backbone import Backbone
from lsn_core.class_names import fold_name
from lsn_core.progress import progress_bar
from lsn_core.prompts.encoder import TextTower
from lsn_core.prompts.learned import NameTokens
from lsn_core.prompts.written import POSITIVE_TEMPLATE, fill
from lsn_core.shipped import EMBEDDED_DIR

log = logging.getLogger(__name__)

LIST = "nouns.txt"
SHIPPED = EMBEDDED_DIR / "nouns.safetensors"
_AT_ONCE = 256
_features: WeakKeyDictionary[Backbone, Tensor] = WeakKeyDictionary()


@dataclass(frozen=True)
class Noun:
    """A noun of a visible thing, and what else it is called or a kind of."""

    name: str
    kinds: frozenset[str]


@cache
def nouns() -> tuple[Noun, ...]:
    """M nouns of WordNet 3.0, in alphabetical order; its licence stands at the head of the list."""
    found = []
    for line in files("lsn_core.prompts").joinpath(LIST).read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, _, kinds = line.partition("\t")
            found.append(Noun(fold_name(name), frozenset(filter(None, kinds.split(", ")))))
    return tuple(found)


def unlike(class_names: Sequence[str]) -> list[int]:
    """Indices of the nouns that say something against these classes.

    Left out are a class's own name and its synonyms, kinds of it (a poodle is a dog), what it is a kind of (a dog, for
    the class "poodle", as far as it is among the nouns) and the last words of its name ("spaniel", for "English
    springer spaniel").
    """
    names = {fold_name(name) for name in class_names}
    heads = {" ".join(name.split()[i:]) for name in names for i in range(len(name.split()))}
    above = {kind for noun in nouns() if noun.name in names for kind in noun.kinds}
    like = heads | above
    return [i for i, noun in enumerate(nouns()) if noun.name not in like and not noun.kinds & names]


def noun_features(backbone: Backbone) -> Tensor:
    """Text features of "a photo of a {}" for each of `nouns()`: shape (M, D), fp32, unit length, on the CPU.

    Encoded once for a backbone and kept in torch's cache folder (below `TORCH_HOME`); those of the embedded
    backbone ship with it. Where the folder cannot be written, they are kept in memory only.
    """
    if backbone not in _features:
        folder, weights = Path(torch.hub.get_dir()).parent / "lsn_core", backbone.weights_hash[:16]
        own = folder / f"nouns-{weights}-{backbone.text_function[:8]}.safetensors"
        earlier = folder / f"nouns-{weights}.safetensors"  # as earlier versions called it
        kept = (features for path in (SHIPPED, own, earlier) if (features := _read(path, backbone)) is not None)
        found = next(kept, None)
        _features[backbone] = encode_nouns(backbone, own) if found is None else found
    return _features[backbone]


def encode_nouns(backbone: Backbone, path: Path) -> Tensor:
    """Encodes the nouns and keeps their features in a file, in half precision."""
    texts = [fill(POSITIVE_TEMPLATE, noun.name) for noun in nouns()]
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # texts of like length, so that little is padded
    encoded = torch.empty(len(texts), backbone.dim)
    bar = progress_bar("Encoding nouns, once for this backbone", "noun", len(texts), delay=2)
    with bar:
        for start in range(0, len(order), _AT_ONCE):
            part = order[start : start + _AT_ONCE]
            encoded[part] = encode_alike(backbone, [texts[i] for i in part])
            bar.update(len(part))
    half = encoded.half()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        about = {"weights_hash": backbone.weights_hash, "list": _list_hash(), "function": backbone.text_function}
        write_safetensors(path, {"nouns": half}, about)
    except OSError as error:
        log.info("The features of the nouns are not kept: %s.", error)
    return F.normalize(half.float(), dim=-1)


@torch.no_grad()
def encode_alike(backbone: Backbone, texts: Sequence[str]) -> Tensor:
    """Features of texts that begin with the same words, (N, D), fp32, unit length, on the CPU.

    What `Backbone.encode_texts` gives, in less than half the time: the text tower runs on what they share once, and on
    no padding.
    """
    if not backbone.promptable or not texts:
        return backbone.encode_texts(texts)
    ids = backbone.tokenize(texts)
    ends = backbone.find_eot(ids)
    before = backbone.framing.start
    same = int((ids == ids[0]).all(dim=0).int().cumprod(0).sum())
    shared = min(same, int(ends.min())) - before  # of each text something is left to run
    if shared < 1:
        return backbone.encode_texts(texts)
    rows = ids[:, before + shared : int(ends.max()) + 1]
    lengths = ends + 1 - before - shared
    tower = TextTower(backbone, NameTokens.of_ids(backbone, ids[0, :before], rows, lengths))
    if tower.plain:
        return backbone.encode_texts(texts)
    context = backbone.embed_tokens(ids[:1, before : before + shared])[None]
    return tower.encode(context)[0].cpu()


def _read(path: Path, backbone: Backbone) -> Tensor | None:
    """The file's features if they are of these weights, run as here, and of this list."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            if (about.get("weights_hash"), about.get("list")) != (backbone.weights_hash, _list_hash()):
                return None
            function = about.get("function")  # a file of an earlier version, or one that ships, does not say
            if function != backbone.text_function and not (function is None and backbone.texts_as_ever):
                return None
            features = F.normalize(file.get_tensor("nouns").float(), dim=-1)
        if features.shape == (len(nouns()), backbone.dim) and features.isfinite().all():
            return features
        reason = "wrong values"
    except (SafetensorError, OSError) as error:
        reason = str(error)
    log.warning("The features of the nouns in %s are damaged (%s) and are made again.", path.name, reason)
    return None


@cache
def _list_hash() -> str:
    return hashlib.sha256("\n".join(noun.name for noun in nouns()).encode()).hexdigest()
