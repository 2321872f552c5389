"""Methods that compare images with prompts: the library's scores, by name, of written or learned ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.harness.images import Images, Scorer
from benchmarks.harness.setting import Setting
from lsn_core import Detector, get_preset
from lsn_core.scores.matching import mcm
from lsn_core.scores.registry import NEGATIVES, SCORES, total
from lsn_core.training.presets import ablate

Prompts = Callable[[Setting], Detector]


def written(setting: Setting) -> Detector:
    """Class names alone."""
    return setting.zero_shot


def coop(setting: Setting) -> Detector:
    """What `train` makes with the setting's preset: CoOp's positive and LSN's negative prompts."""
    return setting.detector()


def cocoop(setting: Setting) -> Detector:
    """The same with prompts that are made for each image, of the same preset, images and seed; its score not chosen."""
    config = setting.config
    changes = {"shots": config.shots, "seed": config.seed, "calibration_share": config.calibration_share}
    return setting.detector(get_preset(config.preset, "cocoop", choose_score=False, **changes))


def by_score(prompts: Prompts, score: str | None = None) -> Callable[[Setting], Scorer]:
    """A registered score of these prompts; None is the detector's own."""

    def fit(setting: Setting) -> Scorer:
        detector = prompts(setting)
        return lambda images: total(detector.parts(images.inputs(detector), score))

    return fit


def by_prompts(prompts: Prompts) -> Callable[[Setting], Scorer]:
    """The class whose positive prompt fits each image best."""

    def fit(setting: Setting) -> Scorer:
        detector = prompts(setting)
        return lambda images: images.cosines(detector)[0].argmax(dim=-1)

    return fit


def without_negatives(setting: Setting) -> Scorer:
    """The default detector's score, less what its learned negative prompts say."""
    detector = coop(setting)
    return by_score(coop, less_negatives(detector.score_name))(setting)


def less_negatives(name: str) -> str:
    """The score that is left of a registered one without the negative prompts."""
    score = SCORES[name]
    if NEGATIVES not in score.needs:
        return name
    rest = tuple(term for term in score.sum_of if NEGATIVES not in SCORES[term].needs)
    sums = {other.sum_of: name for name, other in SCORES.items() if other.sum_of}
    if rest:
        return sums[rest] if len(rest) > 1 else rest[0]
    return {"difference": "max-cosine"}.get(name, "mcm")


def ablation(name: str) -> Callable[[Setting], Scorer]:
    """A row of Tables 4 and 5 (`training.presets.ABLATIONS`), measured by its own score.

    Positive and negative prompts are learned apart, so a row that only leaves one side out uses what the full run
    learned on the other side. Without positive prompts, Table 4 keeps hand-written ones, where Table 5's row of
    class-specific negative prompts with names has negative prompts alone.
    """
    of_full: dict[str, tuple[Prompts, str]] = {
        "full": (coop, "lsn"),
        "no-negative": (coop, "mcm"),
        "no-positive": (lambda setting: setting.written_positives, "lsn"),
        "pos-shared-name": (coop, "mcm"),
        "neg-specific-name": (coop, "negatives-only"),
    }
    if name in of_full:
        return by_score(*of_full[name])
    return by_score(lambda setting: setting.detector(ablate(replace(setting.config, choose_score=False), name)))


def gl_mcm(setting: Setting) -> Scorer:
    """Global and local MCM (Miyai et al., 2023): MCM plus the largest softmax probability at any place of the image.

    The places' features are those of `image_tower`: in a ViT, CLIP Surgery's path, where the authors take the last
    block's values.
    """
    text = setting.zero_shot.positive

    def score(images: Images) -> Tensor:
        parts = [part @ text.T for part in images.local.split(512)]  # (n, places, C)
        local = torch.cat([part.softmax(dim=-1).flatten(1).amax(dim=-1) for part in parts])
        return mcm(images.embedding @ text.T) + local

    return score
