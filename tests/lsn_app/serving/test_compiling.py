"""The image tower is compiled beside the answers, by a process of its own, and taken from then on."""

from __future__ import annotations

import subprocess
import threading
import time
from pathlib import Path

import pytest
import torch

from lsn_app.serving import compiling
from lsn_core import load_backbone
from lsn_core.backbones import compiled

_PATIENCE = 240


@pytest.fixture(autouse=True)
def allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv(compiled.VARIABLE, "auto")
    monkeypatch.setattr(compiling, "_AFTER_SECONDS", 0.0)


def wait_for_thread() -> None:
    deadline = time.monotonic() + _PATIENCE
    while any(thread.name == "compiling" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.timeout(600)
def test_answers_go_on_and_stay_the_same_when_the_tower_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = load_backbone("embedded", "cpu")
    crops = torch.randint(256, (3, 224, 224, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    before = backbone.encode_crops(crops)
    compiling.compile_beside(backbone)
    assert (backbone.encode_crops(crops) - before).abs().max() < compiled.LARGEST_DIFFERENCE
    wait_for_thread()
    assert backbone.runtime.name == "openvino"
    assert (backbone.encode_crops(crops) - before).abs().max() < compiled.LARGEST_DIFFERENCE
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("it is converted already"))
    again = load_backbone("embedded", "cpu")
    compiling.compile_beside(again)
    wait_for_thread()
    assert again.runtime.name == "openvino"


def test_where_converting_fails_pytorch_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(command: list[str], **_: object) -> None:
        raise subprocess.CalledProcessError(2, command)

    monkeypatch.setattr(subprocess, "run", refuse)
    backbone = load_backbone("embedded", "cpu")
    compiling.compile_beside(backbone)
    wait_for_thread()
    assert backbone.runtime.name == "eager" and "stays with PyTorch" in caplog.text
