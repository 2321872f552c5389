"""The presets (paper, reference, fast), and the ablations of the paper's Tables 4 and 5."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

from lsn_core.errors import UserError
from lsn_core.training.config import NEGATIVE_PAPER, PromptConfig, TrainConfig

PRESETS: dict[str, TrainConfig] = {
    # As printed in section 4.2 and appendix D.0.2.
    "paper": TrainConfig(),
    # As in the authors' published code.
    "reference": TrainConfig(
        preset="reference",
        positive=PromptConfig(lr=0.001, momentum=0.9, weight_decay=5e-4),
        negative=replace(NEGATIVE_PAPER, lr=0.002),
        loss_on="probabilities",
        reg="mean_signed",
        reg_weight=1.0,
        sets_in_turn=True,
    ),
    # A step costs the text tower whatever the batch: few updates, each on many images, and as many for few images.
    "fast": TrainConfig(
        preset="fast",
        positive=PromptConfig(optimizer="adam", lr=0.005, updates=50, batch_size=256, lr_per_step=True),
        negative=replace(NEGATIVE_PAPER, lr=0.02, updates=60, batch_size=256, lr_per_step=True),
        choose_score=True,
    ),
}


def get_preset(name: str, method: str = "coop", **changes: Any) -> TrainConfig:
    """The preset of that name, for CoOp or CoCoOp, with other changes to its top-level settings.

    All state their temperatures in units of the backbone's own, which for OpenAI's CLIP makes the paper's numbers. With
    `paper` and `reference` the paper's score gives the verdicts; `fast` chooses one on folds (`choose_score`).
    CoCoOp learns L = 4 positive and 16 negative vectors for 10 epochs, one image a step (appendix D.0.2); `fast` takes
    8 images a step for 100 updates.

    Args:
        name: "paper" (as printed), "reference" (as in the authors' code) or "fast" (large batches, few passes).
        method: "coop" or "cocoop".
        changes: fields of `TrainConfig` by name, such as `shots` (images per class, at least 1) or `seed` (at least 0).

    Returns:
        A frozen, validated config.

    Raises:
        UserError: the preset or a setting is unknown.

    Examples:
        >>> from lsn_core import get_preset
        >>> get_preset("fast", shots=16).shots
        16
    """
    if name not in PRESETS:
        raise UserError(f"No preset is called {name[:60]!r}. Known presets: {', '.join(PRESETS)}.")
    config = PRESETS[name]
    if method == "cocoop":
        schedule: dict[str, Any] = {"epochs": 10, "batch_size": 1}
        if name == "fast":
            schedule = {"updates": 100, "batch_size": 8}
        config = replace(
            config,
            method=method,
            sets_in_turn=False,
            positive=replace(config.positive, context_length=4, **schedule),
            negative=replace(config.negative, **schedule),
        )
    return TrainConfig.from_dict(
        {**{f.name: getattr(config, f.name) for f in fields(config)}, "method": method, **changes}
    )


def with_updates(config: TrainConfig, updates: int) -> TrainConfig:
    """`config` with so many updates of each kind of prompt, however many images there are. Raises UserError below 1."""
    return replace(
        config,
        positive=replace(config.positive, updates=updates),
        negative=replace(config.negative, updates=updates),
    )


def _positive(config: TrainConfig, **changes: Any) -> TrainConfig:
    return replace(config, positive=replace(config.positive, **changes))


def _negative(config: TrainConfig, **changes: Any) -> TrainConfig:
    return replace(config, negative=replace(config.negative, **changes))


ABLATIONS: dict[str, Callable[[TrainConfig], TrainConfig]] = {
    # Table 4
    "full": lambda config: config,
    "no-positive": lambda config: _positive(config, sets=0),
    "no-negative": lambda config: _negative(config, sets=0),
    "no-regulariser": lambda config: replace(config, reg_weight=0.0),
    "multi-positive": lambda config: _negative(_positive(config, sets=3), sets=0),
    # Table 5: positive prompts alone, then negative prompts alone
    "pos-shared-name": lambda config: _negative(_positive(config, class_specific=False), sets=0),
    "pos-specific-name": lambda config: _negative(_positive(config, class_specific=True), sets=0),
    "pos-specific-no-name": lambda config: _negative(_positive(config, class_specific=True, with_name=False), sets=0),
    "neg-shared-name": lambda config: _positive(_negative(config, class_specific=False), sets=0),
    "neg-specific-name": lambda config: _positive(_negative(config, class_specific=True), sets=0),
    "neg-specific-no-name": lambda config: _positive(_negative(config, class_specific=True, with_name=False), sets=0),
}
"""The rows of Tables 4 and 5, each a change to a config."""


def ablate(config: TrainConfig, name: str) -> TrainConfig:
    """`config` changed into that row of Table 4 or 5. Raises UserError for an unknown name."""
    if name not in ABLATIONS:
        raise UserError(f"No ablation is called {name!r}. Known ones: {', '.join(ABLATIONS)}.")
    return ABLATIONS[name](config)
