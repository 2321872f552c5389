"""`probe`, run as its users run it: a process, its lines and its exit code."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support import REPO, run_command, run_inside

from lsn_core import Backbone
from lsn_core.data.images import open_image
from lsn_core.negation import choose, negation_table, written_prompts
from lsn_core.prompts.written import NEGATIONS

DETECTOR = REPO / "checkpoints" / "detectors" / "imagenette.safetensors"


def _lines(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_texts_classes_and_bad_files_a_line_each(examples: Path, embedded: Backbone, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes((examples / "elephant.jpg").read_bytes())
    (tmp_path / "b.jpg").write_text("no picture")
    texts = ["not a photo of an elephant", "not a photo of a dog"]
    done = run_command(
        "probe",
        tmp_path,
        tmp_path / "gone.png",
        "--classes",
        "elephant,dog",
        "--texts",
        texts[0],
        "--texts",
        texts[1],
        "--truth",
        "elephant",
        "--json",
    )
    assert done.returncode == 1, done.stderr
    lines = _lines(done)
    assert [Path(line["file"]).name for line in lines] == ["a.jpg", "b.jpg", "gone.png"]
    assert [line["error"] is None for line in lines] == [True, False, False]
    assert "b.jpg" in lines[1]["error"] and lines[1]["choice"] is None
    feature = embedded.encode_images([open_image(examples / "elephant.jpg")])
    expected = choose(feature, texts, embedded)
    assert lines[0]["choice"]["chosen"] == expected.chosen
    assert lines[0]["choice"]["probabilities"] == pytest.approx(expected.probabilities, abs=1e-5)
    table = negation_table(written_prompts(embedded, ["elephant", "dog"]), feature, "elephant")
    assert [row["text"] for row in lines[0]["written"]["rows"]] == [row.text for row in table.rows]
    assert lines[0]["written"]["tallies"] == [vars(tally) for tally in table.tallies]
    assert lines[0]["learned"] is None


def test_labelled_images_are_counted_beside_a_detectors_prompts(examples: Path, tmp_path: Path) -> None:
    for name in ("church", "golf ball"):
        (tmp_path / "d" / name).mkdir(parents=True)
    (tmp_path / "d" / "church" / "1.jpg").write_bytes((examples / "church.jpg").read_bytes())
    (tmp_path / "d" / "golf ball" / "1.jpg").write_bytes((examples / "dog.jpg").read_bytes())
    (tmp_path / "d" / "golf ball" / "2.jpg").write_text("no picture")
    done = run_command("probe", "--data", tmp_path / "d", "--detector", DETECTOR, "--json")
    assert done.returncode == 1, done.stderr
    bad, *lines = _lines(done)
    assert bad["file"] == "golf ball/2.jpg" and bad["error"]
    assert len(lines) == 10 * (len(NEGATIONS) + 3)  # classes x (wordings + learned sets)
    church = [line for line in lines if line["class_name"] == "church"]
    assert {(line["images"], line["images_of_class"]) for line in church} == {(2, 1)}
    assert {line["prompts"] for line in church} == {"written", "learned"}
    assert all(0 <= line["chose_not_of_class"] <= line["chose_not"] <= 2 for line in church)


def test_photos_without_labels_are_counted_too(examples: Path) -> None:
    done = run_command(
        "probe",
        examples / "dog.jpg",
        examples / "cat.jpg",
        "--classes",
        "dog,cat",
        "--template",
        "no {}",
        "--count",
        "--json",
    )
    assert done.returncode == 0, done.stderr
    lines = _lines(done)
    assert [(line["class_name"], line["wording"], line["images"]) for line in lines] == [
        ("dog", "no {}", 2),
        ("cat", "no {}", 2),
    ]
    assert lines[0]["images_of_class"] is None and lines[0]["wrong"] is None


def test_readable_lines_tell_of_the_choice(examples: Path) -> None:
    done = run_command(
        "probe", examples / "dog.jpg", "--classes", "dog,cat", "--texts", "a dog", "--texts", "not a dog"
    )
    assert done.returncode == 0, done.stderr
    assert "dog.jpg" in done.stdout and "chooses '" in done.stdout and "not a photo of a {}" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "images or --data"),
        (["assets/examples/dog.jpg"], "Give --classes"),
        (["assets/examples/dog.jpg", "--texts", "one"], "Two texts"),
        (["assets/examples/dog.jpg", "--classes", "a,b", "--template", "no"], "must hold {}"),
        (["assets/examples/dog.jpg", "--classes", "a,b", "--count", "--truth", "a"], "single images"),
    ],
)
def test_mistakes_are_sentences(arguments: list[str], words: str) -> None:
    done = run_inside("probe", *arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert words in done.stderr and "Traceback" not in done.stderr
