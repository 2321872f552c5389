"""Each preset beside MCM: rows, and the floor of a step."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import fewer_updates

from benchmarks.harness.protocols import Split
from benchmarks.harness.setting import Setting
from benchmarks.harness.summary import summarise
from benchmarks.presets import of_preset, presets_section
from benchmarks.speed.training_speed import step_flops
from lsn_core import get_preset
from lsn_core.backbones.backbone import Backbone
from lsn_core.data.labelled import load_data
from lsn_core.prompts.learned import NameTokens


@pytest.fixture(scope="module")
def setting(embedded: Backbone, shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Setting:
    """Two classes against two others, few photos of each."""
    train = load_data(shared_data / "imagenette" / "train.parquet").subset(range(60))
    test = load_data(shared_data / "imagenette" / "val.parquet").subset(range(20))
    split = Split(
        "p", "s", train.select_classes([0, 1]), test.select_classes([0, 1]), {"o": test.select_classes([2, 3])}
    )
    return Setting(embedded, split, get_preset("fast", shots=4), tmp_path_factory.mktemp("presets"))


@pytest.mark.parametrize("method", ["coop", "cocoop"])
def test_a_preset_is_trained_and_its_cost_told(setting: Setting, method: str) -> None:
    config = fewer_updates(get_preset("fast", method, shots=4, choose_score=False), 3, 4)
    rows = of_preset(setting, config, 10)
    assert len(rows) == 3 and all(row["method"].endswith(", fast") for row in rows)
    for row in rows:
        assert row["updates"] == 7
        assert row["step_seconds"] == pytest.approx(row["train_seconds"] / 7)
        assert row["floor_seconds"] > 0
    assert "CoOp" in presets_section(summarise(rows, ("method",)))


def test_a_step_runs_a_shared_context_once_and_each_name_for_every_set(tiny_backbone: Backbone) -> None:
    names = NameTokens.of(tiny_backbone, ["dog", "cat"], 4)
    one, two = (step_flops(tiny_backbone, names, sets, 4, shared=True) for sets in (1, 2))
    assert two == pytest.approx(2 * one)
    assert step_flops(tiny_backbone, names, 1, 4, shared=False) > one
