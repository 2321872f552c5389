"""Methods that compare images with texts: written and learned prompts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.harness.setting import Images, Scorer, Setting
from lsn_core import Detector, get_preset
from lsn_core.scores import get_score, mcm
from lsn_core.training.config import TrainConfig
from lsn_core.training.presets import ablate

# -- written prompts ---------------------------------------------------------------------------------------------------


def zero_shot(score: str) -> Callable[[Setting], Scorer]:
    """A registered score on "a photo of a {}" and "not a photo of a {}"."""
    return lambda setting: lambda images: setting.zero_shot.score_features(images.embedding, score)


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


# -- CLIPN's scores ----------------------------------------------------------------------------------------------------


def clipn(score: Callable[[Tensor, Tensor], Tensor], detector: Callable[[Setting], Detector]) -> Callable[..., Scorer]:
    """One of CLIPN's two scores (Wang et al., 2023) on the prompts of a detector.

    A class's "no" is its share in the softmax over the pair of its positive and negative prompt, at the model's own
    temperature, averaged over the K sets. CLIPN itself fine-tunes a second text encoder on CC3M for its negative
    prompts, which is not done here.
    """

    def fit(setting: Setting) -> Scorer:
        judge, temperature = detector(setting), setting.backbone.temperature

        def scorer(images: Images) -> Tensor:
            positive, negative = images.cosines(judge)
            no = ((negative - positive[:, None]) / temperature).sigmoid().mean(dim=1)  # (N, C)
            return score(positive.div(temperature).softmax(dim=-1), no)

        return scorer

    return fit


def competing_to_win(yes: Tensor, no: Tensor) -> Tensor:
    """CLIPN's CTW: how little the best class (N, C) is denied. Shape (N,), in [0, 1]."""
    return 1 - no.gather(1, yes.argmax(dim=-1, keepdim=True))[:, 0]


def agreeing_to_differ(yes: Tensor, no: Tensor) -> Tensor:
    """CLIPN's ATD: the probability left to the known classes when each is denied by its "no". Shape (N,), in [0, 1]."""
    return ((1 - no) * yes).sum(dim=-1)


# -- learned prompts ---------------------------------------------------------------------------------------------------


def coop_config(setting: Setting) -> TrainConfig:
    """CoOp + LSN: the setting's own."""
    return setting.config


def cocoop_config(setting: Setting) -> TrainConfig:
    """CoCoOp + LSN, of the same preset and seed, from at most `setting.cocoop_images` labelled images in all.

    Every image has prompts of its own, so that a pass over the images costs as many runs of the text tower.
    """
    config, share = setting.config, setting.cocoop_images // len(setting.class_names)
    shots = share if config.shots is None else min(config.shots, share)
    return get_preset(
        config.preset, "cocoop", shots=shots, seed=config.seed, calibration_share=config.calibration_share
    )


def learned(score: str | None = None, config: Callable[[Setting], TrainConfig] = coop_config) -> Callable[..., Scorer]:
    """A registered score (None: the detector's own) of trained prompts: CoOp's or CoCoOp's, and LSN's negative ones."""
    return lambda setting: lambda images: _score(setting.detector(config(setting)), images, score)


def ablation(name: str) -> Callable[[Setting], Scorer]:
    """A row of Tables 4 and 5 (`training_config.ABLATIONS`), judged by its own score.

    Positive and negative prompts are learned apart, so a row that only leaves one side out uses what the full run
    learned on the other side.
    """
    of_full = {
        "full": "lsn", "no-negative": "mcm", "pos-shared-name": "mcm",
        "no-positive": "negatives-only", "neg-specific-name": "negatives-only",
    }  # fmt: skip
    return learned(of_full.get(name), coop_config if name in of_full else lambda setting: ablate(setting.config, name))


def with_shots(setting: Setting, shots: int) -> Setting:
    """The same split with fewer images per class, for the same number of updates."""
    config = setting.config
    full = min(len(setting.drawn), (config.shots or len(setting.drawn)) * len(setting.class_names))
    fewer = replace(config, shots=shots)
    images = shots * len(setting.class_names)

    def longer(prompts):  # type: ignore[no-untyped-def]
        updates = prompts.epochs * -(-full // prompts.batch_size)
        return replace(prompts, epochs=max(1, round(updates / -(-images // prompts.batch_size))))

    fewer = replace(fewer, positive=longer(config.positive), negative=longer(config.negative))
    return Setting(setting.backbone, setting.split, fewer, setting.folder, setting.cocoop_images, setting.clock)


def _score(judge: Detector, images: Images, score: str | None) -> Tensor:
    """Scores of images; cosines are remembered for the images, as CoCoOp's cost a run of the text tower each."""
    positive, negative = images.cosines(judge)
    return get_score(score or judge.score_name)(positive, negative)
