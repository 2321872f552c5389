"""BLIP by name through every command that takes a backbone, from labelled photos to a verdict."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import run_inside
from tiny_blip import save_tiny_blip

from lsn_app.serving.store import Store
from lsn_core import Detector
from lsn_core.detector.file import read_detector_file


@pytest.fixture(scope="module")
def name(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("blip") / "tiny"
    save_tiny_blip(folder)
    return f"blip:{folder}"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes that even a random tower tells apart: dark and light noise, wider than high."""
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for label, light in (("cat", 40), ("ship", 200)):
        (folder / label).mkdir()
        for i in range(6):
            pixels = (random.integers(0, 50, (40, 70, 3)) + light).astype(np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def detector(name: str, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector with learned prompts, of the command that trains."""
    file = tmp_path_factory.mktemp("detector") / "detector.safetensors"
    done = run_inside("train", photos, "--backbone", name, "--shots", 3, "--score", "lsn", "--out", file)
    assert done.returncode == 0, done.stderr
    return file


def test_a_detector_is_learned_and_names_its_backbone(detector: Path, name: str) -> None:
    metadata, tensors = read_detector_file(detector)
    assert metadata["backbone"] == name and metadata["backbone_settings"]["text"]["tower"] == "BlipTextTower"
    assert tensors["contexts.positive.contexts"].shape[-1] == 32 and tensors["negative"].shape[1:] == (2, 20)
    learned, written = Detector.load(detector), Detector.zero_shot(Detector.load(detector).backbone, ["cat", "ship"])
    assert (learned.positive - written.positive).abs().max() > 1e-2


def test_it_scores_photos_and_draws_heat_maps(detector: Path, photos: Path, tmp_path: Path) -> None:
    done = run_inside("score", photos / "ship", photos / "cat", "--detector", detector, "--json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    right = [row["predicted_class"] == Path(row["file"]).parent.name for row in rows]
    assert len(rows) == 12 and sum(right) >= 10, done.stdout + done.stderr
    for method in ("legrad", "grad-cam"):
        out = tmp_path / method
        drawn = run_inside(
            "heatmap", photos / "cat" / "0.png", "--detector", detector, "--method", method, "--out", out
        )
        assert drawn.returncode == 0 and len(list(out.glob("*.png"))) == 5, drawn.stderr


def test_it_is_asked_about_not(name: str, photos: Path) -> None:
    done = run_inside("probe", photos / "cat" / "0.png", "--classes", "cat,ship", "--backbone", name, "--json")
    assert done.returncode == 0, done.stderr
    assert "not a photo of a" in done.stdout


def test_doctor_says_what_it_is(name: str) -> None:
    report = json.loads(run_inside("doctor", "--backbone", name, "--json").stdout)
    assert report["backbone_ok"] and report["promptable"] and report["feature_size"] == 20
    assert report["image_size"] == "48 x 48" and report["activation"] == "GELU"


def test_the_app_takes_its_detector(detector: Path, name: str, photos: Path, tmp_path: Path) -> None:
    store = Store("embedded", public=False, detectors_dir=tmp_path / "none")
    label = store.add_upload(detector, "mine.safetensors", "ann")
    found, encoder = store.detector(label)
    assert found.class_names == ("cat", "ship") and encoder.backbone.name == name
