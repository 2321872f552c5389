"""The command line, run as its users run it: a process, its lines and its exit code."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from support import REPO, run_command, run_inside

from lsn_core import Backbone, Detector
from lsn_core.data.images import printable

CONTRACT = {"file", "verdict", "score", "threshold", "p_value", "predicted_class", "positive", "negative", "error"}


def test_score_prints_the_contract(examples: Path, embedded: Backbone) -> None:
    done = run_command("score", "--classes", "dog,cat,elephant", "--json", examples / "dog.jpg", examples / "cat.jpg")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["predicted_class"] for line in lines] == ["dog", "cat"]
    detector = Detector.zero_shot(embedded, ["dog", "cat", "elephant"])
    for line, expected in zip(lines, detector.predict([examples / "dog.jpg", examples / "cat.jpg"]), strict=True):
        assert set(line) >= CONTRACT
        assert line["verdict"] == expected.verdict
        assert line["score"] == pytest.approx(expected.score, abs=1e-6)
        assert line["error"] is None and line["p_value"] is None and not line["calibrated"]
        assert set(line["positive"]) == set(line["negative"]) == {"dog", "cat", "elephant"}
        assert line["score_name"] == "neglabel" and set(line["evidence"]) == {"match", "world"}
        assert sum(line["evidence"].values()) == pytest.approx(line["score"] - line["threshold"], abs=1e-4)


@pytest.mark.parametrize("classes", ["dog,zebra", "dog"])
def test_any_score_that_can_serve_gives_the_verdicts(classes: str, examples: Path, embedded: Backbone) -> None:
    photos = [examples / "dog.jpg", examples / "church.jpg"]
    done = run_inside("score", "--classes", classes, "--score", "max-cosine", "--json", *photos)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    detector = Detector.zero_shot(embedded, classes.split(","))
    expected = detector.score_features(embedded.encode_images([_open(path) for path in photos]), "max-cosine")
    assert [line["score"] for line in lines] == pytest.approx(expected.tolist(), abs=1e-5)
    assert lines[0]["score"] > lines[1]["score"] and {line["score_name"] for line in lines} == {"max-cosine"}
    for line in lines:
        assert sum(line["evidence"].values()) == pytest.approx(line["score"] - line["threshold"], abs=1e-5)


def test_one_class_is_enough(examples: Path) -> None:
    done = run_inside("score", "--classes", "dog", "--json", examples / "dog.jpg", examples / "church.jpg")
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["verdict"] for line in done.stdout.splitlines()] == ["ID", "OOD"]


def test_a_bad_file_gets_its_own_line(examples: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes((examples / "dog.jpg").read_bytes())
    (tmp_path / "b.jpg").write_text("no picture")
    done = run_command("score", "--classes", "dog,cat", "--json", tmp_path, tmp_path / "gone.png")
    assert done.returncode == 1
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [Path(line["file"]).name for line in lines] == ["a.jpg", "b.jpg", "gone.png"]
    assert [line["error"] is None for line in lines] == [True, False, False]
    assert lines[1]["verdict"] is None and "b.jpg" in lines[1]["error"]


def test_a_detector_file_and_calibration_photos(examples: Path, embedded: Backbone, tmp_path: Path) -> None:
    names = ["dog", "cat", "zebra"]
    known = [examples / f"{name}.jpg" for name in names]
    detector = Detector.zero_shot(embedded, names)
    detector = detector.calibrate(embedded.encode_images([_open(path) for path in known]))
    detector.save(tmp_path / "d.safetensors")
    (tmp_path / "known").mkdir()
    for path in known:
        (tmp_path / "known" / path.name).write_bytes(path.read_bytes())
    saved = run_command("score", "--detector", tmp_path / "d.safetensors", "--json", "--tpr", "0.7", known[0])
    typed = run_command(
        "score", "--classes", ",".join(names), "--calibrate", tmp_path / "known", "--json", "--tpr", "0.7", known[0]
    )
    first, second = json.loads(saved.stdout), json.loads(typed.stdout)
    for key in ("score", "threshold", "p_value"):
        assert first[key] == pytest.approx(second[key], abs=1e-6)
    assert first["predicted_class"] == second["predicted_class"] == "dog"
    assert first["calibrated"] and 0 < first["p_value"] <= 1
    assert math.isfinite(first["threshold"])


def _open(path: Path):
    from lsn_core.data.images import open_image

    return open_image(path)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--classes", " , "], "one class"),
        ([], "--detector FILE or --classes"),
        (["--classes", "a,b", "--detector", "x.safetensors"], "one of the two"),
        (["--detector", "nothing.safetensors"], "no detector file"),
        (["--classes", "a,b", "--backbone", "ViT-B-61:openai"], "Did you mean"),
        (["--classes", "a,b", "--tpr", "1.5"], "between 0 and 1"),
        (["--classes", "a,b", "--device", "toaster"], "toaster"),
        (["--classes", "a,b", "--score", "mcn"], "Known scores: zero-shot-mcm"),
        (["--classes", "a,b", "--score", "knn"], "needs photos of the classes"),
        (["--classes", "a,b", "--score", "neglabel-lsn"], "needs units"),
        (["--classes", "a", "--score", "mcm"], "only one. Scores that can serve: max-cosine"),
    ],
)
def test_mistakes_are_sentences(examples: Path, arguments: list[str], words: str) -> None:
    done = run_inside("score", examples / "dog.jpg", *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_an_empty_folder_is_said(tmp_path: Path) -> None:
    done = run_inside("score", tmp_path, "--classes", "a,b")
    assert done.returncode == 2
    assert "No images" in done.stderr


def test_doctor_reports_the_machine(embedded: Backbone) -> None:
    done = run_command("doctor", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["backbone_ok"] and report["promptable"]
    assert report["weights_hash"] == embedded.weights_hash
    assert report["versions"]["torch"] and "PyTorch" in report["compiled_tower"]  # the tests set LSN_RUNTIME=eager
    assert "small CLIP" in run_command("doctor").stdout


def test_the_library_never_imports_gradio() -> None:
    code = (
        "import sys, pkgutil, importlib, lsn_core\n"
        "for m in pkgutil.walk_packages(lsn_core.__path__, 'lsn_core.'):\n"
        "    if not m.name.endswith('__main__'): importlib.import_module(m.name)\n"
        "assert 'gradio' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", ["score", "probe"])
def test_names_of_files_neither_steer_the_terminal_nor_end_in_a_traceback(
    command: str, examples: Path, tmp_path: Path
) -> None:
    names = ["a\x1b[2Jb.jpg", "a\udcffb.jpg", "a\u202egpj.jpg"]
    for name in names:
        (tmp_path / name).write_bytes((examples / "dog.jpg").read_bytes())
    said = run_inside(command, "--classes", "dog,cat", tmp_path)
    assert said.returncode == 0, said.stderr
    assert "\x1b" not in said.stdout and "\u202e" not in said.stdout and "�[2Jb.jpg" in said.stdout
    printed = run_inside(command, "--classes", "dog,cat", "--json", tmp_path).stdout
    found = {Path(json.loads(line)["file"]).name for line in printed.splitlines()}
    assert found == {printable(name) for name in names} and len(found) == len(names)


def test_a_folder_without_photos_calibrates_nothing(examples: Path, tmp_path: Path) -> None:
    done = run_inside("score", "--classes", "dog,cat", "--calibrate", tmp_path, examples / "dog.jpg")
    assert done.returncode == 2 and f"No images were found in {tmp_path}" in done.stderr


def test_bf16_wants_photos_to_calibrate_with(examples: Path) -> None:
    shipped = REPO / "checkpoints" / "detectors" / "everyday.safetensors"
    refused = run_inside("score", "--detector", shipped, "--bf16", examples / "dog.jpg")
    assert refused.returncode == 2 and "calibrated in fp32" in refused.stderr
