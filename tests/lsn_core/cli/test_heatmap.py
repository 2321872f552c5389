"""`heatmap`, run as its users run it: from a photo and a detector to pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from support import REPO, run_command, run_inside

DETECTOR = REPO / "checkpoints" / "detectors" / "imagenette.safetensors"


def test_a_trained_detector_draws_its_positive_and_negative_prompts(examples: Path, tmp_path: Path) -> None:
    done = run_command(
        "heatmap", examples / "church.jpg", "--detector", DETECTOR, "--out", tmp_path / "new" / "folder", "--json"
    )
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout)
    assert [one["label"] for one in line["maps"]] == [
        "church",
        "learned no to church (1)",
        "learned no to church (2)",
        "learned no to church (3)",
    ]
    photo = Image.open(examples / "church.jpg")
    for one in line["maps"]:
        with Image.open(one["file"]) as drawn:
            assert drawn.size == photo.size and drawn.convert("RGB").tobytes() != photo.convert("RGB").tobytes()
    with Image.open(line["panel"]) as drawn:
        assert drawn.width > 4 * 250
    assert line["limit"] > 0 and line["seen_box"] == [0, 0, *photo.size]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--method", "x-ray"], "Known methods"),
        (["--method", "legrad"], "has none"),
        (["--target", "x"], "Known targets"),
        (["--class", "horse"], "no class 'horse'"),
        (["--opacity", "2"], "opacity"),
        (["--detector", str(DETECTOR)], "one of the two"),
    ],
)
def test_mistakes_are_sentences_and_leave_no_pictures(
    examples: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    done = run_inside("heatmap", examples / "dog.jpg", "--classes", "dog,cat", "--out", tmp_path / "out", *arguments)
    assert done.returncode == 2
    assert words in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_an_out_that_is_a_file_is_said(examples: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("something else")
    done = run_inside("heatmap", examples / "dog.jpg", "--classes", "dog,cat", "--out", tmp_path / "out")
    assert done.returncode == 2 and "Choose another folder" in done.stderr
    assert (tmp_path / "out").read_text() == "something else"
