"""Methods on learned prompts: CoOp, CoCoOp, LSN and the ablations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from benchmarks.harness.images import Images, Scorer
from benchmarks.harness.setting import Setting
from lsn_core import Detector, get_preset
from lsn_core.scores.registry import total
from lsn_core.training.config import TrainConfig
from lsn_core.training.presets import ablate


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
    """A row of Tables 4 and 5 (`training_config.ABLATIONS`), measured by its own score.

    Positive and negative prompts are learned apart, so a row that only leaves one side out uses what the full run
    learned on the other side.
    """
    of_full = {
        "full": "lsn",
        "no-negative": "mcm",
        "pos-shared-name": "mcm",
        "no-positive": "negatives-only",
        "neg-specific-name": "negatives-only",
    }
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


def _score(detector: Detector, images: Images, score: str | None) -> Tensor:
    return total(detector.parts(images.inputs(detector), score))
