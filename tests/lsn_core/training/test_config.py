"""Training configs: they survive their files, refuse what cannot be meant, and the paper's preset is the paper."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from lsn_core import TrainConfig, UserError, get_preset
from lsn_core.training.config import METHODS, PromptConfig
from lsn_core.training.presets import PRESETS


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("preset", PRESETS)
def test_configs_survive_json(preset: str, method: str) -> None:
    config = get_preset(preset, method, seed=4)
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    "change",
    [
        {"shots": 0},
        {"seed": -1},
        {"seed": True},
        {"reg": "none"},
        {"calibration_share": 1.0},
        {"method": "x"},
        {"sets": 3},
        {"positive": {"lr": 0.0}},
        {"positive": {"epochs": "9"}},
        {"positive": {"updates": 0}},
        {"positive": {"temperature": 0.01, "relative_temperature": 2.0}},
        {"negative": {"updates": 5}, "sets_in_turn": True},
        {"negative": {"lr": float("nan")}},
        {"positive": {"with_name": False}},
        {"positive": {"sets": 0}, "negative": {"sets": 0}},
    ],
)
def test_bad_settings_are_refused(change: dict) -> None:
    with pytest.raises(UserError):
        TrainConfig.from_dict(change)


def test_the_paper_preset_is_the_paper() -> None:
    config = get_preset("paper")
    clip = 0.01  # the paper's CLIP's own temperature
    assert config.positive.tau(clip) == pytest.approx(0.01) and config.negative.tau(clip) == pytest.approx(0.05)
    shape = {"context_length": 16, "with_name": True, "batch_size": 8}
    assert config.positive == PromptConfig(1, class_specific=False, optimizer="sgd", lr=0.002, epochs=50, **shape)
    negative = PromptConfig(3, class_specific=True, optimizer="adam", lr=0.001, epochs=100, **shape)
    assert config.negative == replace(negative, relative_temperature=5.0)
    assert (config.reg, config.reg_weight, config.shots) == ("sum_abs", 0.1, 128)


def test_settings_of_version_0_1_mean_what_they_meant() -> None:
    values = {"temperature": 0.02, "sets": 2, "context_length": 3, "class_specific": True, "with_name": True}
    values |= {"optimizer": "adam", "lr": 0.001, "momentum": 0.0, "weight_decay": 0.0, "epochs": 2, "batch_size": 8}
    old = TrainConfig.from_dict({"negative": values | {"lr_per_step": False}})
    assert old.negative.tau(0.04) == 0.02 and not old.choose_score
    assert old.to_dict()["negative"] == values | {"lr_per_step": False}
    assert "choose_score" not in old.to_dict()
