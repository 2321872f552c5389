"""The script for a GPU runs whole on a CPU, at a small size."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import gpu


@pytest.mark.usefixtures("one_thread")
def test_everything_is_measured_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "tests", lambda *_: {"summary": "3 passed", "failed": [], "seconds": 1.0})
    monkeypatch.setattr(gpu, "random_backbone", lambda *_: gpu.load_backbone("embedded", "cpu"))
    monkeypatch.setattr(sys, "argv", ["gpu", "--device", "cpu", "--small", "--out", str(tmp_path)])
    gpu.main()
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert [row["precision"] for row in report["steps"]] == ["fp32", "fp32", "bf16"]
    assert all(row["step_s"] > 0 and row["floor_s"] > 0 for row in report["steps"])
    assert report["steps"][0]["step_s"] > report["steps"][1]["step_s"]  # the literal way is the slow one
    assert max(row.get("largest_difference", 0) for row in report["parity"]) < 1e-5
    assert report["runs"][0]["seconds"] > 0 and report["images"][0]["share"] > 0 and len(report["heat_maps"]) > 3
    page = (tmp_path / "gpu.md").read_text()
    assert "3 passed" in page and "heat maps of four prompts" in page and "floor, ms" in page


@pytest.mark.usefixtures("one_thread")
def test_a_part_is_added_to_what_the_same_machine_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(gpu, "random_backbone", lambda *_: gpu.load_backbone("embedded", "cpu"))
    command = ["gpu", "--device", "cpu", "--small", "--out", str(tmp_path), "--parts"]
    monkeypatch.setattr(sys, "argv", [*command, "parity"])
    gpu.main()
    first = json.loads((tmp_path / "gpu.json").read_text())
    assert "Not measured: steps, runs, images, heat maps." in (tmp_path / "gpu.md").read_text()
    monkeypatch.setattr(sys, "argv", [*command, "heat_maps"])
    gpu.main()
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert report["parity"] == first["parity"] and report["heat_maps"] and first["command"] in report["command"]
    (tmp_path / "gpu.json").write_text(json.dumps(report | {"gpu": "another"}))
    with pytest.raises(SystemExit):
        gpu.main()
    assert "was made with another" in capsys.readouterr().err


def test_without_a_gpu_it_says_how_to_try_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu"])
    with pytest.raises(SystemExit):
        gpu.main()
    assert "--device cpu --small" in capsys.readouterr().err
