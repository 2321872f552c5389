"""Scores of images by each kind of method, a chunk of images at a time; chunks that cost much are kept on disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.harness.images import Images
from benchmarks.harness.setting import Setting
from benchmarks.methods.dualcoop import dual_coop
from benchmarks.methods.registry import METHODS
from lsn_core import Detector
from lsn_core.atomic import write_safetensors
from lsn_core.scores.registry import BASELINE, total

PREDICTED = "predicted"
"""Column of the class that each image is taken for."""
MANY, SOME, FEW = 2048, 256, 64
"""Images in a chunk: some for methods that are fitted to features, as GradNorm takes a gradient of the classifier for
each of them at once; few where each costs runs of the text tower, so that an interrupted run loses little."""

Columns = Callable[[Images], dict[str, Tensor]]
"""Images -> score -> values, shape (N,), higher = more in-distribution; `PREDICTED` may be among them."""


def by_detector(detector: Detector, scores: Sequence[str]) -> Columns:
    """Scores of a detector's prompts.

    Args:
        scores: names in `scores.registry.SCORES`, and "written and negatives", which is Eq. 14 with hand-written
            positive prompts (Table 4's "w/o positive prompts").
    """

    def columns(images: Images) -> dict[str, Tensor]:
        inputs = detector.inputs(images.embedding)
        found = {PREDICTED: inputs.positive.argmax(dim=-1)}
        for score in scores:
            terms = (BASELINE, "negatives-only") if score == "written and negatives" else (score,)
            found[score] = sum((total(detector.parts(inputs, term)) for term in terms), torch.zeros(()))
            if score == "written and negatives":
                found[PREDICTED] = inputs.written.argmax(dim=-1)
        return found

    return columns


def by_features(setting: Setting, names: Sequence[str]) -> Columns:
    """Scores of methods that are fitted to images' features, and the classes that their classifier gives."""
    fitted = {name: METHODS[name].fit(setting) for name in names}

    def columns(images: Images) -> dict[str, Tensor]:
        found = {name: score(images).detach() for name, score in fitted.items()}
        return found | {PREDICTED: setting.classifier.logits(images.embedding).argmax(dim=-1)}

    return columns


def by_dual_coop(setting: Setting, updates: int | None) -> Columns:
    """The score of DualCoOp, which says nothing of classes here."""
    score = dual_coop(setting, updates)
    return lambda images: {"mcm": score(images).detach()}


def score_images(
    columns: Columns,
    images: Images,
    size: int,
    kept: Path | None = None,
    tick: Callable[[int, int], None] | None = None,
) -> dict[str, Tensor]:
    """The columns of all images.

    Args:
        size: images in a chunk.
        kept: start of the names of files in which chunks are kept, and taken from where they are whole; None for none.
        tick: called with (images done, N) after each chunk.
    """
    parts = []
    for number, chunk in enumerate(images.chunks(size)):
        path = None if kept is None else kept.with_name(f"{kept.name}-{number}.safetensors")
        part = None if path is None else _read(path, len(chunk))
        if part is None:
            part = {name: values.cpu().contiguous() for name, values in columns(chunk).items()}
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_safetensors(path, part, {})
        parts.append(part)
        if tick is not None:
            tick(min((number + 1) * size, len(images)), len(images))
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _read(path: Path, images: int) -> dict[str, Tensor] | None:
    try:
        found = load_file(path)
    except (OSError, SafetensorError, ValueError):
        return None
    return found if found and all(len(values) == images for values in found.values()) else None
