"""All methods that the tables compare: fitted to a `Setting`, they score images, higher = more in-distribution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.harness.images import Scorer
from benchmarks.harness.setting import Setting
from benchmarks.methods import post_hoc as image_methods
from benchmarks.methods.line import line
from benchmarks.methods.prompts import by_prompts, by_score, cocoop, coop, gl_mcm, without_negatives, written
from benchmarks.methods.vos import vos
from lsn_core.scores.registry import BASELINE

ZERO_SHOT, CLASSIFIER, PROMPTS, PHOTOS = "zero-shot", "image classifier", "learned prompts", "photos and nouns"

MCM, NAMES_ALONE, DEFAULT = "MCM", "names alone", "default detector"
"""Hand-written zero-shot MCM, in every table; what `Detector.zero_shot` gives; what `train` gives."""


@dataclass(frozen=True)
class Method:
    """A method: what it learns from, and how it is fitted.

    Attributes:
        group: what it learns from the labelled images.
        fit: a setting -> the function that scores images, shape (N,).
        predict: a setting -> the function that gives images their classes, shape (N,); None for methods that do not.
        per_image: whether each image costs runs of the text tower: then it is measured on at most
            `Setting.cocoop_images` images of either side.
    """

    group: str
    fit: Callable[[Setting], Scorer]
    predict: Callable[[Setting], Scorer] | None = None
    per_image: bool = False

    @property
    def seeded(self) -> bool:
        """Whether it depends on the images drawn."""
        return self.group != ZERO_SHOT


def by_classifier(setting: Setting) -> Scorer:
    """The class that the linear classifier gives each image."""
    return lambda images: setting.classifier.logits(images.embedding).argmax(dim=-1)


WRITTEN, COOP, COCOOP = by_prompts(written), by_prompts(coop), by_prompts(cocoop)


def _from_names(score: str | None) -> Method:
    return Method(ZERO_SHOT, by_score(written, score), WRITTEN)


def _learned(score: str | None) -> Method:
    return Method(PROMPTS, by_score(coop, score), COOP)


def _beside_photos(score: str) -> Method:
    return Method(PHOTOS, by_score(lambda setting: setting.with_photos, score), WRITTEN)


METHODS: dict[str, Method] = {
    MCM: _from_names(BASELINE),
    "max cosine": _from_names("max-cosine"),
    "GL-MCM": Method(ZERO_SHOT, gl_mcm, WRITTEN),
    "CLIPN CTW (written)": _from_names("clipn-ctw"),
    "CLIPN ATD (written)": _from_names("clipn-atd"),
    NAMES_ALONE: _from_names(None),
    "MSP": Method(CLASSIFIER, image_methods.msp, by_classifier),
    "ODIN": Method(CLASSIFIER, image_methods.odin, by_classifier),
    "Energy": Method(CLASSIFIER, image_methods.energy, by_classifier),
    "MaxLogit": Method(CLASSIFIER, image_methods.max_logit, by_classifier),
    "GradNorm": Method(CLASSIFIER, image_methods.grad_norm, by_classifier),
    "ASH": Method(CLASSIFIER, image_methods.ash, by_classifier),
    "ViM": Method(CLASSIFIER, image_methods.vim, by_classifier),
    "KNN": Method(CLASSIFIER, image_methods.knn, by_classifier),
    "NNGuide": Method(CLASSIFIER, image_methods.nn_guide, by_classifier),
    "LINe": Method(CLASSIFIER, line, by_classifier),
    "VOS (head alone)": Method(CLASSIFIER, vos, by_classifier),
    "Mahalanobis": Method(CLASSIFIER, image_methods.mahalanobis, by_classifier),
    "ViM (written prompts)": _beside_photos("vim"),
    "prototypes": _beside_photos("prototypes"),
    "CoOp": _learned("mcm"),
    "CoCoOp": Method(PROMPTS, by_score(cocoop, "mcm"), COCOOP, per_image=True),
    "negatives only": _learned("negatives-only"),
    "CLIPN CTW (learned)": _learned("clipn-ctw"),
    "CLIPN ATD (learned)": _learned("clipn-atd"),
    "CoOp + LSN": _learned("lsn"),
    "CoOp + LSN (Eq. 9)": _learned("lsn-eq9"),
    "CoOp + LSN (difference)": _learned("difference"),
    "CoCoOp + LSN": Method(PROMPTS, by_score(cocoop, "lsn"), COCOOP, per_image=True),
    "CoCoOp + LSN (difference)": Method(PROMPTS, by_score(cocoop, "difference"), COCOOP, per_image=True),
    f"{DEFAULT} without negatives": Method(PROMPTS, without_negatives, COOP),
    DEFAULT: _learned(None),
}
"""By name, in the order of the tables."""

NOT_RUN = {
    "VOS": "fine-tunes the image tower with virtual outliers; here the towers stay as they are, and its head is run",
    "NPOS": "fine-tunes the image tower with synthesised outliers; here the towers stay as they are",
    "ZOC": "needs an image captioner trained on COCO captions, which is not part of this project",
}
"""Methods of the paper's tables that are not run, and why."""
