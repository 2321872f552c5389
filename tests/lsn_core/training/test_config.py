"""Training configs: they survive their files, refuse what cannot be meant, and the paper's preset is the paper."""

from __future__ import annotations

import json

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
    assert config.positive == PromptConfig(1, 16, False, True, 0.01, "sgd", 0.002, epochs=50, batch_size=8)
    assert config.negative == PromptConfig(3, 16, True, True, 0.05, "adam", 0.001, epochs=100, batch_size=8)
    assert (config.reg, config.reg_weight, config.shots) == ("sum_abs", 0.1, 128)
