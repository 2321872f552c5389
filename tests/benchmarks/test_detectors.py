"""The shipped detectors: which photos they are measured on, and when an answer about an example is right."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.detectors import ALSO, EXAMPLES, examples_section, on_examples
from benchmarks.harness.protocols import photos_to_test_on
from lsn_core import Detector, UserError
from lsn_core.backbones.backbone import Backbone


def test_photos_come_from_the_set_that_has_all_classes(shared_data: Path) -> None:
    images = photos_to_test_on(shared_data, ["dog", "cat"])
    assert images.class_names == ("dog", "cat")
    assert {name.partition(",")[0] for name in images.names} == {"test.parquet"} or len(images) == 600


def test_photos_of_several_sets_stand_one_after_the_other(shared_data: Path) -> None:
    images = photos_to_test_on(shared_data, ["golf ball", "truck", "pizza"])
    assert images.class_names == ("golf ball", "truck", "pizza")
    labels = images.labels.tolist()
    assert labels == sorted(labels) and set(labels) == {0, 1, 2}
    # 60 of Imagenette's, 300 of CIFAR10's; the bytes are those of each set.
    assert (labels.count(0), labels.count(1)) == (60, 300)
    assert images.read(0)[:2] == b"\xff\xd8" and images.read(60)[:4] == b"\x89PNG"


def test_a_class_without_photos_is_said(shared_data: Path) -> None:
    with pytest.raises(UserError, match="No image set has photos of 'unicorn'"):
        photos_to_test_on(shared_data, ["golf ball", "unicorn"])


def test_right_is_the_class_that_is_there_or_none(embedded: Backbone) -> None:
    answers = on_examples("two", Detector.zero_shot(embedded, ["bird", "church"]))
    assert len(answers) == 16
    for answer in answers:
        there = {"flamingo.jpg": "bird", "church.jpg": "church"}.get(answer["photo"], "none of its classes")
        assert answer["right"] == (answer["answer"] == there)
    right = sum(answer["right"] for answer in answers)
    assert f"| two | {right} of 16 |" in examples_section(answers)


def test_what_examples_show_is_told_of_files_that_are_there() -> None:
    assert {name.replace(" ", "_") for name in ALSO} <= {path.stem for path in EXAMPLES.glob("*.jpg")}
