"""All methods that the tables compare: fitted to a `Setting`, they score images, higher = more in-distribution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.harness.setting import Images, Scorer, Setting, Standard
from benchmarks.methods import neglabel as nouns
from benchmarks.methods import post_hoc as image_methods
from benchmarks.methods import prompts as text_methods
from benchmarks.methods.dualcoop import dual_coop
from benchmarks.methods.prompts import (
    ablation,
    agreeing_to_differ,
    clipn,
    cocoop_config,
    competing_to_win,
    coop_config,
    learned,
)

ZERO_SHOT, CLASSIFIER, PROMPTS = "zero-shot", "image classifier", "learned prompts"
BEYOND, COMBINED = "beyond the paper", "combination"


@dataclass(frozen=True)
class Method:
    """A method: what it looks at, and how it is fitted.

    Attributes:
        group: what it learns from the labelled images.
        fit: a setting -> the function that scores images, shape (N,).
    """

    group: str
    fit: Callable[[Setting], Scorer]


def combine(names: Sequence[str], setting: Setting) -> Scorer:
    """The sum of these scores of `METHODS`, each in units of its spread over held-out images."""
    parts = [Standard(METHODS[name].fit(setting), setting.held_out) for name in names]
    return lambda images: torch.stack([part(images) for part in parts]).sum(dim=0)


def predict(name: str, setting: Setting) -> Scorer | None:
    """What gives the class of images (N,) beside a method's score; None for combinations and the like."""
    group = METHODS[name].group
    if group in (BEYOND, COMBINED) or name == "DualCoOp":
        return None
    if group == CLASSIFIER:
        return lambda images: setting.classifier.logits(images.embedding).argmax(dim=-1)

    def chosen(images: Images) -> Tensor:
        learner = cocoop_config if "CoCoOp" in name else coop_config
        judge = setting.zero_shot if group == ZERO_SHOT else setting.detector(learner(setting))
        return images.cosines(judge)[0].argmax(dim=-1)

    return chosen


METHODS: dict[str, Method] = {
    "MCM": Method(ZERO_SHOT, text_methods.zero_shot("mcm")),
    "GL-MCM": Method(ZERO_SHOT, text_methods.gl_mcm),
    "CLIPN CTW (written)": Method(ZERO_SHOT, clipn(competing_to_win, lambda setting: setting.zero_shot)),
    "CLIPN ATD (written)": Method(ZERO_SHOT, clipn(agreeing_to_differ, lambda setting: setting.zero_shot)),
    "NegLabel": Method(ZERO_SHOT, nouns.neg_label),
    "MSP": Method(CLASSIFIER, image_methods.msp),
    "ODIN": Method(CLASSIFIER, image_methods.odin),
    "Energy": Method(CLASSIFIER, image_methods.energy),
    "MaxLogit": Method(CLASSIFIER, image_methods.max_logit),
    "GradNorm": Method(CLASSIFIER, image_methods.grad_norm),
    "ASH": Method(CLASSIFIER, image_methods.ash),
    "ViM": Method(CLASSIFIER, image_methods.vim),
    "KNN": Method(CLASSIFIER, image_methods.knn),
    "NNGuide": Method(CLASSIFIER, image_methods.nn_guide),
    "Mahalanobis": Method(CLASSIFIER, image_methods.mahalanobis),
    "DualCoOp": Method(PROMPTS, dual_coop),
    "CoOp": Method(PROMPTS, learned("mcm")),
    "CoCoOp": Method(PROMPTS, learned("mcm", cocoop_config)),
    "negatives only": Method(PROMPTS, ablation("no-positive")),
    "CLIPN CTW (learned)": Method(PROMPTS, clipn(competing_to_win, Setting.detector)),
    "CLIPN ATD (learned)": Method(PROMPTS, clipn(agreeing_to_differ, Setting.detector)),
    "CoOp + LSN": Method(PROMPTS, learned("lsn")),
    "CoCoOp + LSN": Method(PROMPTS, learned("lsn", cocoop_config)),
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
