"""From a wrong name of a backbone to the one that would work."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import open_clip

from lsn_core.shipped import EMBEDDED

FILES_THAT_RUN_CODE = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".tar")
_SCHEME = re.compile(r"(?i)(hf[-_ ]?hub|hub|hf|hugging[-_ ]?face|local[-_ ]?dir|dir|folder|file|path)\s*:\s*(//)?")
# In the layout of the transformers library; the same weights under open_clip's name.
TRANSFORMERS = {
    "openai/clip-vit-base-patch32": "ViT-B-32:openai",
    "openai/clip-vit-base-patch16": "ViT-B-16:openai",
    "openai/clip-vit-large-patch14": "ViT-L-14:openai",
    "openai/clip-vit-large-patch14-336": "ViT-L-14-336:openai",
    "google/siglip-base-patch16-224": "ViT-B-16-SigLIP:webli",
    "google/siglip-base-patch16-256": "ViT-B-16-SigLIP-256:webli",
    "google/siglip-base-patch16-384": "ViT-B-16-SigLIP-384:webli",
    "google/siglip-base-patch16-512": "ViT-B-16-SigLIP-512:webli",
    "google/siglip-large-patch16-256": "ViT-L-16-SigLIP-256:webli",
    "google/siglip-large-patch16-384": "ViT-L-16-SigLIP-384:webli",
    "google/siglip-so400m-patch14-224": "ViT-SO400M-14-SigLIP:webli",
    "google/siglip-so400m-patch14-384": "ViT-SO400M-14-SigLIP-384:webli",
    "facebook/metaclip-b32-400m": "ViT-B-32:metaclip_400m",
    "facebook/metaclip-b16-400m": "ViT-B-16:metaclip_400m",
    "facebook/metaclip-l14-400m": "ViT-L-14:metaclip_400m",
    "facebook/metaclip-b32-fullcc2.5b": "ViT-B-32:metaclip_fullcc",
    "facebook/metaclip-b16-fullcc2.5b": "ViT-B-16:metaclip_fullcc",
    "facebook/metaclip-l14-fullcc2.5b": "ViT-L-14:metaclip_fullcc",
    "facebook/metaclip-h14-fullcc2.5b": "ViT-H-14:metaclip_fullcc",
}


def no_such_tag(arch: str, tag: str) -> str:
    """Why an architecture has no weights of that tag, and which it has."""
    base = arch.removesuffix("-gelu")
    if base != arch:
        return (
            f"{arch} is for a file of weights, as in {arch}:FILE.safetensors. A tag knows its activation: {base}:{tag}."
        )
    tags = open_clip.list_pretrained_tags_by_model(arch)
    known = ", ".join(tags) or f"none; {_elsewhere(arch)}"
    if not tag:
        return f"{arch} needs its weights, too: write {arch}:TAG, as in {_example(arch)}. Known tags: {known}."
    same = [t for t in tags if _fold(t) == _fold(tag)] or difflib.get_close_matches(tag.lower(), tags, n=2, cutoff=0.5)
    same = same or [t for t in tags if len(_fold(tag)) > 2 and _fold(tag) in _fold(t)][:3]
    hint = f" Did you mean {' or '.join(f'{arch}:{t}' for t in same)}?" if same else ""
    if not hint:
        others = [f"{a}:{t}" for a, t in open_clip.list_pretrained() if _fold(t) == _fold(tag)]
        near = sorted(others, key=lambda pair: -difflib.SequenceMatcher(None, pair.partition(":")[0], arch).ratio())[:2]
        hint = f" These weights are of {' and '.join(near)}." if near else ""
    return f"{arch} has no weights called {tag!r}.{hint} Known tags: {known}. Write {arch}:TAG."


def _elsewhere(arch: str) -> str:
    plain = re.sub(r"-quickgelu$", "", arch)
    tags = open_clip.list_pretrained_tags_by_model(plain) if plain != arch else []
    return (
        f"{plain} has {', '.join(tags[:3])}"
        if tags
        else "only a file of weights can serve, as in ARCH:FILE.safetensors"
    )


def _example(arch: str) -> str:
    tags = open_clip.list_pretrained_tags_by_model(arch)
    return f"{arch}:{tags[0]}" if tags else f"{arch}:FILE.safetensors"


def hint(name: str) -> str:
    """A sentence with what was probably meant, and a space behind it; empty where there is no guess."""
    found = next(_guesses(name), "")
    return f"{found} " if found else ""


def _guesses(name: str) -> Iterator[str]:
    given = bare(name)
    if not given:
        return
    if given.lower() == EMBEDDED or _fold(given) in ("embeddedclip", "default", "none"):
        yield f"Did you mean {EMBEDDED!r}?"
    scheme = re.match(
        r"(?i)(hf[-_ ]?hub|hub|hf|hugging[-_ ]?face|local[-_ ]?dir|dir|folder|file|path)\s*:\s*(//)?", given
    )
    if scheme:
        rest = given[scheme.end() :]
        yield f"Did you mean {'hf-hub' if scheme[1].lower()[0] == 'h' else 'local-dir'}:{bare(rest)}?"
    if found := re.match(r"(?i)blip\s*[:@ ]\s*", given):
        yield f"Did you mean blip:{bare(given[found.end() :])}?"
    if re.fullmatch(r"(?i)([\w.-]+/)?blip-[\w.-]+", given):
        yield f"Did you mean blip:{given if '/' in given else f'Salesforce/{given}'}?"
    if (path := Path(given).expanduser()).is_dir():
        if (path / "config.json").is_file():
            yield f"For BLIP in a folder in transformers' layout write blip:{given}."
        yield f"For a folder in open_clip's layout write local-dir:{given}."
    if path.suffix.lower() in (".safetensors", *FILES_THAT_RUN_CODE):
        there = "" if path.is_file() else " (and there is no such file)"
        yield f"A file of weights needs its architecture before it{there}: write ARCH:{given}, as in ViT-B-32:{given}."
    known = {**_pairs_of_repositories(), **TRANSFORMERS}
    if given.lower() in known:
        yield f"{given} is {known[given.lower()]} here."
    pairs = {_fold(arch + tag): f"{arch}:{tag}" for arch, tag in open_clip.list_pretrained()}
    folded = re.sub(r"^(openclip|clip)|px$", "", _fold(given)) or _fold(given)  # OpenAI: ViT-L/14@336px
    if folded in pairs:
        yield f"Did you mean {pairs[folded]}?"
    archs = {_fold(arch): arch for arch in open_clip.list_models()}
    before = re.split(r"[:@,]", given)[0]
    if arch := archs.get(folded) or archs.get(_fold(before)):
        tag = "" if folded in archs else given[len(before) + 1 :].strip()
        tags = {_fold(known): known for known in open_clip.list_pretrained_tags_by_model(arch)}
        yield f"Did you mean {arch}:{tags.get(_fold(tag), tag)}?" if tag else f"Did you mean {_example(arch)}?"
    starts = [pair for key, pair in pairs.items() if len(folded) > 3 and key.startswith(folded)]
    if starts:
        yield f"Did you mean {' or '.join(starts[:3])}?"
    if re.fullmatch(r"[\w.-]+/[\w.-]+", given) and given.partition("/")[0].lower() not in archs.values():
        near = difflib.get_close_matches(given.lower(), known, n=1, cutoff=0.8)
        more = f" or {known[near[0]]}" if near else ""
        yield f"If this is a repository of the Hub in open_clip's layout, write hf-hub:{given}{more}."
    if of_tag := [pair for pair in pairs.values() if _fold(pair.partition(":")[2]) == folded]:
        yield f"These are weights of {' or '.join(of_tag[:3])}."
    close = difflib.get_close_matches(before, open_clip.list_models(), n=3)
    close = close or difflib.get_close_matches(_fold(before), archs, n=3)
    if close:
        yield f"Did you mean {', '.join(str(archs.get(name, name)) for name in close)}?"


def bare(name: str) -> str:
    """A name without quotes, spaces and the address of the Hub around it."""
    name = name.strip().strip("\"'()[]").strip()
    name = re.sub(r"^(https?://)?(www\.)?(huggingface\.co|hf\.co)/", "", name)
    return re.sub(r"/(tree|blob|resolve)/.*$", "", name).rstrip("/") or name


def _fold(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


@cache
def _pairs_of_repositories() -> dict[str, str]:
    """Repository in small letters -> ARCH:TAG, of all that open_clip knows."""
    found: dict[str, str] = {}
    for arch, tag in open_clip.list_pretrained():
        repository = open_clip.get_pretrained_cfg(arch, tag).get("hf_hub", "").strip("/").lower()
        if repository:
            found.setdefault(repository, f"{arch}:{tag}")
    return found
