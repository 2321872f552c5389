"""All methods that the tables compare: fitted to a `Setting`, they score images, higher = more in-distribution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from benchmarks.harness.images import Scorer
from benchmarks.harness.setting import Setting, Standard
from benchmarks.methods import neglabel as nouns
from benchmarks.methods import post_hoc as image_methods
from benchmarks.methods.clipn import agreeing_to_differ, clipn, competing_to_win
from benchmarks.methods.dualcoop import dual_coop
from benchmarks.methods.prompts import ablation, cocoop_config, coop_config, learned
from benchmarks.methods.zero_shot import gl_mcm, zero_shot
from lsn_core import Detector

ZERO_SHOT, CLASSIFIER, PROMPTS = "zero-shot", "image classifier", "learned prompts"
BEYOND, COMBINED = "beyond the paper", "combination"


@dataclass(frozen=True)
class Method:
    """A method: what it learns from, and how it is fitted.

    Attributes:
        group: what it learns from the labelled images.
        fit: a setting -> the function that scores images, shape (N,).
        predict: a setting -> the function that gives images their classes, shape (N,); None for methods that do not.
        per_image: whether each image costs runs of the text tower: then it learns from `Setting.cocoop_images` images
            at most, is measured on as many of either side, and takes no part in the folds of `benchmarks.combination`.
    """

    group: str
    fit: Callable[[Setting], Scorer]
    predict: Callable[[Setting], Scorer] | None = None
    per_image: bool = False


def combine(names: Sequence[str], setting: Setting) -> Scorer:
    """The sum of these scores of `METHODS`, each in units of its spread over held-out images."""
    parts = [Standard(METHODS[name].fit(setting), setting.held_out) for name in names]
    return lambda images: torch.stack([part(images) for part in parts]).sum(dim=0)


def by_classifier(setting: Setting) -> Scorer:
    """The class that the linear classifier gives each image."""
    return lambda images: setting.classifier.logits(images.embedding).argmax(dim=-1)


def by_prompts(detector: Callable[[Setting], Detector]) -> Callable[[Setting], Scorer]:
    """The class whose positive prompt fits each image best."""
    return lambda setting: lambda images: images.cosines(detector(setting))[0].argmax(dim=-1)


WRITTEN = by_prompts(lambda setting: setting.zero_shot)
COOP = by_prompts(lambda setting: setting.detector(coop_config(setting)))
COCOOP = by_prompts(lambda setting: setting.detector(cocoop_config(setting)))

METHODS: dict[str, Method] = {
    "MCM": Method(ZERO_SHOT, zero_shot("mcm"), WRITTEN),
    "GL-MCM": Method(ZERO_SHOT, gl_mcm, WRITTEN),
    "CLIPN CTW (written)": Method(ZERO_SHOT, clipn(competing_to_win, lambda setting: setting.zero_shot), WRITTEN),
    "CLIPN ATD (written)": Method(ZERO_SHOT, clipn(agreeing_to_differ, lambda setting: setting.zero_shot), WRITTEN),
    "NegLabel": Method(ZERO_SHOT, nouns.neg_label, WRITTEN),
    "MSP": Method(CLASSIFIER, image_methods.msp, by_classifier),
    "ODIN": Method(CLASSIFIER, image_methods.odin, by_classifier),
    "Energy": Method(CLASSIFIER, image_methods.energy, by_classifier),
    "MaxLogit": Method(CLASSIFIER, image_methods.max_logit, by_classifier),
    "GradNorm": Method(CLASSIFIER, image_methods.grad_norm, by_classifier),
    "ASH": Method(CLASSIFIER, image_methods.ash, by_classifier),
    "ViM": Method(CLASSIFIER, image_methods.vim, by_classifier),
    "KNN": Method(CLASSIFIER, image_methods.knn, by_classifier),
    "NNGuide": Method(CLASSIFIER, image_methods.nn_guide, by_classifier),
    "Mahalanobis": Method(CLASSIFIER, image_methods.mahalanobis, by_classifier),
    "DualCoOp": Method(PROMPTS, dual_coop),
    "CoOp": Method(PROMPTS, learned("mcm"), COOP),
    "CoCoOp": Method(PROMPTS, learned("mcm", cocoop_config), COCOOP, per_image=True),
    "negatives only": Method(PROMPTS, ablation("no-positive"), COOP),
    "CLIPN CTW (learned)": Method(PROMPTS, clipn(competing_to_win, Setting.detector), COOP),
    "CLIPN ATD (learned)": Method(PROMPTS, clipn(agreeing_to_differ, Setting.detector), COOP),
    "CoOp + LSN": Method(PROMPTS, learned("lsn"), COOP),
    "CoCoOp + LSN": Method(PROMPTS, learned("lsn", cocoop_config), COCOOP, per_image=True),
    "NegLabel with prototypes": Method(BEYOND, nouns.prototypes),
    "nouns as outliers": Method(BEYOND, nouns.outliers),
    "LSN + NegLabel": Method(COMBINED, lambda setting: combine(("CoOp + LSN", "NegLabel"), setting)),
}
"""By name, in the order of the tables."""

NOT_RUN = {
    "VOS": "fine-tunes the image tower with virtual outliers; here the towers stay as they are",
    "NPOS": "fine-tunes the image tower with synthesised outliers; here the towers stay as they are",
    "LiNe": "shapes activations of a trained classifier by neuron importance; pytorch-ood has no version to use",
    "ZOC": "needs an image captioner trained on COCO captions, which is not part of this project",
}
"""Methods of the paper's tables that are not run, and why."""
