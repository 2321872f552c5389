"""The repository as a Hugging Face Space: the head of its README is true, and its requirements leave torch open."""

from __future__ import annotations

import re
from typing import Any

import open_clip
import pytest
import yaml
from packaging.requirements import Requirement
from support import REPO

COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
KNOWN = {
    "title",
    "emoji",
    "colorFrom",
    "colorTo",
    "sdk",
    "sdk_version",
    "python_version",
    "app_file",
    "short_description",
    "license",
    "models",
    "tags",
    "preload_from_hub",
    "suggested_hardware",
    "startup_duration_timeout",
    "pinned",
}
ZERO_GPU_TORCH = ("2.8.0", "2.9.1", "2.10.0", "2.11.0")


@pytest.fixture(scope="module")
def card() -> dict[str, Any]:
    head = re.match(r"---\n(.*?)\n---\n", (REPO / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert head is not None, "README.md must begin with a YAML block"
    return yaml.safe_load(head[1])


@pytest.fixture(scope="module")
def requirements() -> dict[str, Requirement]:
    lines = (REPO / "requirements.txt").read_text(encoding="utf-8").splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {requirement.name: requirement for requirement in found}


def test_the_head_has_what_a_space_needs_in_the_forms_the_hub_takes(card: dict[str, Any]) -> None:
    assert set(card) == KNOWN
    assert card["sdk"] == "gradio" and (REPO / card["app_file"]).is_file()
    assert {card["colorFrom"], card["colorTo"]} <= COLOURS
    assert len(card["short_description"]) <= 60 and not card["emoji"].isascii()
    assert isinstance(card["python_version"], str) and re.fullmatch(r"3\.1[0-4]", card["python_version"])
    assert re.fullmatch(r"\d+(m|h)", card["startup_duration_timeout"])
    assert all(isinstance(tag, str) for tag in card["tags"])


def test_the_space_runs_the_gradio_that_was_tested(card: dict[str, Any], requirements: dict[str, Requirement]) -> None:
    assert f"=={card['sdk_version']}" == str(requirements["gradio"].specifier)


def test_what_is_preloaded_is_what_the_suggested_backbone_would_download(card: dict[str, Any]) -> None:
    name = re.search(r"LSN_BACKBONE=(\S+)", (REPO / "README.md").read_text(encoding="utf-8"))
    assert name is not None
    repository = open_clip.get_pretrained_cfg(*name[1].split(":"))["hf_hub"].rstrip("/")
    (preloaded,) = card["preload_from_hub"]
    assert preloaded.split() == [repository, "open_clip_model.safetensors"]
    assert card["models"] == [repository]


@pytest.mark.parametrize("version", ZERO_GPU_TORCH)
def test_a_spaces_own_torch_is_taken(requirements: dict[str, Requirement], version: str) -> None:
    assert version in requirements["torch"].specifier and not str(requirements["torchvision"].specifier)


def test_make_installs_a_torch_that_the_app_takes(requirements: dict[str, Requirement]) -> None:
    lines = (REPO / "constraints.txt").read_text().splitlines()
    pins = {pin.name: pin for pin in (Requirement(line) for line in lines if line[0] != "#")}
    for name in ("torch", "torchvision"):
        (wanted,) = pins[name].specifier
        assert wanted.operator == "==" and wanted.version in requirements[name].specifier
