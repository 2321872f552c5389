"""Exported detectors give the library's verdicts, without the library."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from lsn_core import Backbone, Detector, UserError
from lsn_core.cli.app import build
from lsn_core.data.images import open_image
from lsn_core.detector.fit import Fit
from lsn_core.export.graph import DetectorGraph
from lsn_core.export.runner import pixels
from lsn_core.export.write import FORMATS, export
from lsn_core.scores.photos import KnownPhotos
from lsn_core.scores.registry import SCORES, spreads
from lsn_core.shipped import DETECTORS_DIR

CLASSES = ("dog", "cat", "elephant")


def photos(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jpg"))


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (224, 224), (1000, 225), (30, 40), (225, 226)])
def test_the_programs_beside_prepare_pictures_as_the_library_does(embedded: Backbone, size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    ours = (embedded.preprocess(picture).permute(1, 2, 0) * 0.5 + 0.5) * 255
    assert np.array_equal(ours.round().numpy().astype(np.uint8), pixels(picture, 224, 224))


@pytest.mark.parametrize("name", [path.stem for path in sorted(DETECTORS_DIR.glob("*.safetensors"))])
def test_a_shipped_detector_gives_the_same_verdicts_in_onnx_runtime(
    embedded: Backbone, examples: Path, tmp_path: Path, name: str
) -> None:
    import onnxruntime

    detector = Detector.load(DETECTORS_DIR / f"{name}.safetensors", embedded)
    session = onnxruntime.InferenceSession(str(export(detector, tmp_path)))
    told = json.loads((tmp_path / "detector.json").read_text(encoding="utf-8"))
    batch = np.stack([pixels(open_image(photo), told["height"], told["width"]) for photo in photos(examples)])
    scores, classes, known = session.run(None, {"pixels": batch})
    for i, prediction in enumerate(detector.predict(photos(examples))):
        assert scores[i] == pytest.approx(prediction.score, abs=1e-3)
        assert told["class_names"][classes[i]] == prediction.predicted_class
        assert known[i] == (prediction.verdict == "ID")
    assert told["threshold"] == detector.threshold() and told["calibrated"] is True


def test_its_program_runs_without_the_library(examples: Path, tmp_path: Path, embedded: Backbone) -> None:
    detector = Detector.zero_shot(embedded, CLASSES)
    export(detector, tmp_path / "out")
    (tmp_path / "lsn_core.py").write_text("raise ImportError('not here')")
    command = [sys.executable, "out/run.py", str(examples / "dog.jpg"), str(examples / "zebra.jpg")]
    done = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    dog, zebra = done.stdout.splitlines()
    assert "dog.jpg: dog (score" in dog and "zebra.jpg: none of the classes" in zebra


def every_part(backbone: Backbone) -> Detector:
    """A detector that has what any score needs."""
    backbone = copy.copy(backbone)
    backbone.bias = -1.0
    generator = torch.Generator().manual_seed(0)
    features = torch.nn.functional.normalize(torch.randn(60, backbone.dim, generator=generator), dim=-1)
    plain = Detector.zero_shot(backbone, CLASSES, score_name="mcm")
    known = KnownPhotos(features, torch.arange(60) % len(CLASSES), len(CLASSES))
    fitted = plain.with_fit(Fit(photos=known), "mcm")
    units = {
        name: spreads(fitted.parts(fitted.inputs(features), name)) for name, score in SCORES.items() if not score.sum_of
    }
    return fitted.with_fit(Fit(photos=known, units=units), "mcm")


@pytest.mark.parametrize("score", SCORES)
def test_every_score_can_be_exported(tiny_backbone: Backbone, score: str) -> None:
    detector = every_part(tiny_backbone)
    features = torch.nn.functional.normalize(torch.randn(20, tiny_backbone.dim), dim=-1)
    detector = detector.with_score(score).calibrate(features)
    batch = torch.randint(0, 256, (5, 32, 32, 3), dtype=torch.uint8)
    with torch.no_grad():
        program = torch.export.export(DetectorGraph(detector, 0.95).eval(), (batch,), strict=False)
    found, index, known = program.module()(batch)
    expected = detector.predict([Image.fromarray(one) for one in batch.numpy()])
    assert found.tolist() == pytest.approx([one.score for one in expected], rel=1e-4, abs=1e-5)
    assert [CLASSES[i] for i in index.tolist()] == [one.predicted_class for one in expected]
    assert known.tolist() == [one.verdict == "ID" for one in expected]


@pytest.mark.parametrize("format", FORMATS)
def test_each_format_takes_batches_of_any_size(tiny_backbone: Backbone, tmp_path: Path, format: str) -> None:
    from benchmarks.speed.exports import OPENERS

    detector = every_part(tiny_backbone).with_score("fusion")
    path = export(detector, tmp_path, format)  # type: ignore[arg-type]
    run = OPENERS[format](path)
    for count in (1, 2, 7):
        batch = np.random.default_rng(count).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        score, _, known = run(batch)
        expected = detector.predict([Image.fromarray(one) for one in batch])
        assert score.tolist() == pytest.approx([one.score for one in expected], rel=1e-4, abs=1e-4)
        assert known.tolist() == [one.verdict == "ID" for one in expected]


def test_prompts_that_are_made_for_each_image_are_refused(tiny_backbone: Backbone) -> None:
    from lsn_core.detector.prompts import ConditionalPrompts

    detector = Detector.zero_shot(tiny_backbone, CLASSES)
    detector.prompts = object.__new__(ConditionalPrompts)
    with pytest.raises(UserError, match="cocoop"):
        DetectorGraph(detector, 0.95)


@pytest.mark.parametrize("arguments", [["--format", "tflite"], ["--tpr", "2"]])
def test_the_command_says_what_it_cannot_do(tmp_path: Path, arguments: list[str]) -> None:
    command = ["export", "--classes", "dog,cat", "--out", str(tmp_path / "out"), *arguments]
    done = CliRunner().invoke(build(), command)
    assert done.exit_code == 2 and not (tmp_path / "out").exists()


def test_what_is_there_of_an_earlier_export_is_replaced_and_the_rest_stays(
    tiny_backbone: Backbone, tmp_path: Path
) -> None:
    (tmp_path / "model.onnx").write_text("old")
    (tmp_path / "notes.txt").write_text("mine")
    export(Detector.zero_shot(tiny_backbone, CLASSES, score_name="mcm"), tmp_path)
    assert (tmp_path / "model.onnx").stat().st_size > 1000 and (tmp_path / "notes.txt").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {
        "detector.json",
        "model.onnx",
        "notes.txt",
        "page.html",
        "run.py",
    }
