"""A detector loads on the function that it was made with, and on no other of the same weights."""

from __future__ import annotations

import importlib.util
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support import REPO, fewer_updates, unit_vectors

from lsn_core import Backbone, Detector, TrainConfig, UserError, get_preset
from lsn_core.training.loop import train

spec = importlib.util.spec_from_file_location("identities", REPO / "tests/lsn_core/backbones/test_identity.py")
assert spec is not None and spec.loader is not None
identities = importlib.util.module_from_spec(spec)
spec.loader.exec_module(identities)
tiny, OTHERS = identities.tiny, identities.OTHERS
NAMES = ["cat", "dog", "zebra"]


def saved(backbone: Backbone, path: Path) -> Path:
    Detector.zero_shot(backbone, NAMES, score_name="lsn").save(path)
    return path


def as_earlier(path: Path, **changes: Any) -> Path:
    """The file as earlier versions wrote it: it names weights and nothing more of the backbone."""
    with safe_open(path, "pt") as file:
        metadata = json.loads(file.metadata()["lsn"])
    del metadata["backbone_settings"]
    tensors = {name: value.clone() for name, value in load_file(path).items()}
    save_file(tensors, path, {"lsn": json.dumps(metadata | changes)})
    return path


def test_only_its_own_function_loads_a_detector(tmp_path: Path) -> None:
    path = saved(tiny(), tmp_path / "plain.safetensors")
    assert Detector.load(path, tiny()).class_names == tuple(NAMES)
    for name, make in OTHERS.items():
        if name in ("as it is", "precision"):  # other weights by then
            continue
        with pytest.raises(UserError, match="run differently") as caught:
            Detector.load(path, make())
        assert "plain.safetensors" in str(caught.value) and "was" in str(caught.value), name


def test_the_sentence_names_both_activations(tmp_path: Path) -> None:
    path = saved(tiny(quick_gelu=True), tmp_path / "quick.safetensors")
    with pytest.raises(UserError) as caught:
        Detector.load(path, tiny())
    message = str(caught.value)
    assert "image activation was QuickGELU and is GELU" in message
    assert "load the backbone as it was" in message and "lsn_core train" in message


@pytest.mark.parametrize("quick", [False, True])
def test_an_earlier_file_shows_by_its_prompts_what_ran_them(quick: bool, tmp_path: Path) -> None:
    path = as_earlier(saved(tiny(quick_gelu=quick), tmp_path / "old.safetensors"), schema=1)
    assert Detector.load(path, tiny(quick_gelu=quick)).score_name == "lsn"
    here, there = ("GELU", "QuickGELU") if quick else ("QuickGELU", "GELU")
    with pytest.raises(UserError, match=f"encoded with {there}, and here {here} runs"):
        Detector.load(path, tiny(quick_gelu=not quick))


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.usefixtures("one_thread")
def test_an_earlier_file_with_learned_prompts_does_so_too(quick: bool, tmp_path: Path) -> None:
    backbone = tiny(quick_gelu=quick)
    config: TrainConfig = fewer_updates(get_preset("fast"), 2, 2)
    config = replace(config, choose_score=False)
    path = tmp_path / "learned.safetensors"
    train(unit_vectors(24, 1, 64), torch.arange(24) % 3, NAMES, backbone, config).save(path)
    as_earlier(path)
    assert Detector.load(path, tiny(quick_gelu=quick)).contexts
    with pytest.raises(UserError, match="run differently"):
        Detector.load(path, tiny(quick_gelu=not quick))


def test_prompts_that_changed_for_another_reason_are_no_reason_to_refuse(tmp_path: Path) -> None:
    path = saved(tiny(), tmp_path / "old.safetensors")
    as_earlier(path, class_names=["cats", "dogs", "zebras"])  # as if names had been written in another way
    assert Detector.load(path, tiny()).class_names[0] == "cats"


def test_conditional_prompts_of_a_guessed_activation_are_said_to_be_unsure(
    tiny_backbone: Backbone, caplog: pytest.LogCaptureFixture
) -> None:
    file = REPO / "tests" / "fixtures" / "version_0.1" / "cocoop.safetensors"
    assert Detector.load(file, tiny_backbone)
    guessed = Backbone(
        tiny_backbone.model, "x", tiny_backbone.tokenizer, tiny_backbone.device, assumed=("GELU is assumed.",)
    )
    with caplog.at_level(logging.WARNING):
        Detector.load(file, guessed)
    assert "GELU is assumed. The detector does not say" in caplog.text


def test_other_releases_of_libraries_are_said_and_not_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tiny(), tmp_path / "plain.safetensors")
    with safe_open(path, "pt") as file:
        metadata = json.loads(file.metadata()["lsn"])
    metadata["backbone_settings"]["text"]["libraries"]["open_clip_torch"] = "2.0.0"
    tensors = {name: value.clone() for name, value in load_file(path).items()}
    save_file(tensors, path, {"lsn": json.dumps(metadata)})
    with caplog.at_level(logging.WARNING):
        Detector.load(path, tiny())
    assert caplog.text == ""  # built of the same parts
    metadata["backbone_settings"]["text"]["structure"] = "0" * 16
    save_file(tensors, path, {"lsn": json.dumps(metadata)})
    with caplog.at_level(logging.WARNING):
        Detector.load(path, tiny())
    assert "was 2.0.0 and is" in caplog.text
    metadata["backbone_settings"]["text"]["activation"] = ["QuickGELU"]
    save_file(tensors, path, {"lsn": json.dumps(metadata)})
    with pytest.raises(UserError, match="text activation was QuickGELU"):
        Detector.load(path, tiny())


@pytest.mark.parametrize("settings", [None, 3, [], "x"])
def test_damaged_settings_are_refused(settings: object, tmp_path: Path) -> None:
    path = as_earlier(saved(tiny(), tmp_path / "x.safetensors"), backbone_settings=settings)
    with pytest.raises(UserError, match="backbone_settings wrong"):
        Detector.load(path, tiny())


def test_what_a_file_says_is_printed_safely(tmp_path: Path) -> None:
    wrong = {"text": {"activation": ["\x1b[31mred" + "x" * 1000], "precision": {"deep": [1]}}, "image": "none"}
    path = as_earlier(saved(tiny(), tmp_path / "x.safetensors"), backbone_settings=wrong)
    with pytest.raises(UserError) as caught:
        Detector.load(path, tiny())
    assert "\x1b" not in str(caught.value) and len(str(caught.value)) < 900


@pytest.mark.parametrize("name", ["everyday", "imagenette"])
def test_shipped_detectors_load(name: str, embedded: Backbone) -> None:
    assert Detector.load(REPO / "checkpoints" / "detectors" / f"{name}.safetensors", embedded).calibration
