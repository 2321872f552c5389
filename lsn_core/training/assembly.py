"""From learned prompts to a detector that can be used: its score, its photos and its calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from lsn_core.backbones.backbone import Backbone
from lsn_core.detector.choice import Choice
from lsn_core.detector.detector import DEFAULT_ZERO_SHOT, Detector
from lsn_core.detector.fit import Fit
from lsn_core.detector.prompts import ensemble
from lsn_core.prompts.written import POSITIVE_TEMPLATE, fill
from lsn_core.scores.photos import KnownPhotos
from lsn_core.scores.registry import MEANS, PHOTOS, SCORES
from lsn_core.training.choice import Fold, choose_score
from lsn_core.training.config import TrainConfig
from lsn_core.training.phase import Phase
from lsn_core.training.shots import Shots

NO_FOLDS = (
    "Hand-written prompts give the verdicts: there are too few classes or photos to hide some classes and test on them "
    "what was learned."
)


@torch.no_grad()
def learned_detector(
    backbone: Backbone, names: Sequence[str], config: TrainConfig, shots: Shots, phases: Sequence[Phase]
) -> Detector:
    """A detector with these prompts, the paper's score for them and all photos that they were learned from."""
    by_kind = {phase.kind: phase for phase in phases}
    middle = F.normalize(shots.features.mean(dim=0, keepdim=True), dim=-1).to(backbone.device)

    def text(kind: str) -> Tensor:
        parts = [by_kind[kind].encode(learner, middle) for learner in by_kind[kind].learners]
        return torch.cat([part[0] if part.ndim == 4 else part for part in parts])  # (K, C, D)

    if "positive" in by_kind:
        positive = ensemble(text("positive"))
    else:
        positive = backbone.encode_texts([fill(POSITIVE_TEMPLATE, name) for name in names])
    negative = text("negative") if "negative" in by_kind else positive.new_empty(0, *positive.shape)
    return Detector(
        backbone,
        names,
        positive,
        negative,
        score_name=config.paper_score,
        config=config.to_dict(),
        contexts={f"{kind}.{key}": value for kind, phase in by_kind.items() for key, value in phase.prompts().items()},
        fit=Fit(photos=KnownPhotos(shots.features, shots.labels, len(names))),
    )


def finish(
    detector: Detector, config: TrainConfig, shots: Shots, folds: Sequence[tuple[Fold, Detector]], seconds: float
) -> Detector:
    """The detector with its score, the photos that this score needs, and its calibration.

    Args:
        folds: what the score is chosen by, or gets its units from where the config names one. Where none could be made
            to choose by, the score of names alone gives the verdicts: with two classes it does better than Eq. 14.
        seconds: training time, for the record.
    """
    fit, score = detector.fit, config.score
    if folds:
        choice, measured = choose_score(folds, detector.class_names, config.score_name)
        fit = replace(fit, units=measured.units, profile=measured.profiles[choice.score], choice=choice)
        score = choice.score
    elif config.choose_score and config.score_name is None:
        choice = Choice(DEFAULT_ZERO_SHOT, learning_helps=False, reason=NO_FOLDS)
        fit, score = replace(fit, choice=choice), choice.score
    return _calibrated(detector.with_fit(fit, score), shots, seconds)


def one_class_detector(backbone: Backbone, names: Sequence[str], config: TrainConfig, shots: Shots) -> Detector:
    """One class: there is no other to learn a difference from, so its written prompt is calibrated as it is."""
    reason = "One class has no other to be told from, so nothing was learned: its written prompt gives the verdicts."
    choice = Choice(config.score_name or DEFAULT_ZERO_SHOT, learning_helps=False, reason=reason)
    detector = Detector.zero_shot(backbone, names)
    photos = KnownPhotos(shots.features, shots.labels, 1)
    return _calibrated(detector.with_fit(Fit(photos=photos, choice=choice), choice.score), shots, 0.0)


def _calibrated(detector: Detector, shots: Shots, seconds: float) -> Detector:
    needs = SCORES[detector.score_name].needs
    photos = detector.fit.photos
    assert photos is not None
    kept = photos if PHOTOS in needs else photos.condensed() if MEANS in needs else None
    kept = None if kept is None else kept.rounded()
    detector = detector.with_fit(replace(detector.fit, photos=kept), detector.score_name)
    detector.metrics = {
        "train_images": len(shots.labels),
        "calibration_images": len(shots.held_out_labels),
        "train_seconds": round(seconds, 2),
    }
    if not len(shots.held_out):
        return detector
    right = detector.classify_features(shots.held_out) == shots.held_out_labels
    detector.metrics["calibration_accuracy"] = round(float(right.float().mean()), 4)
    return detector.calibrate(shots.held_out)
