"""Verdicts in COCO's form."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from PIL import Image

from lsn_core.handoff.coco import document
from lsn_core.handoff.verdict import Origin, Verdict


@pytest.fixture
def verdicts(tmp_path: Path) -> list[Verdict]:
    (tmp_path / "in").mkdir()
    turned = Image.Exif()
    turned[0x0112] = 6  # shown as 20 wide, 40 high
    Image.new("RGB", (40, 20)).save(tmp_path / "in" / "a.jpg", exif=turned)
    Image.new("RGB", (30, 10)).save(tmp_path / "b.png")
    return [
        Verdict(tmp_path / "in" / "a.jpg", True, "cat", 1.0, -2.0, 0.5),
        Verdict(tmp_path / "b.png", False, "dog", -3.0, -2.0, 0.004),
    ]


def test_each_photo_has_one_annotation_of_its_whole_size(verdicts: list[Verdict], tmp_path: Path) -> None:
    found = document(verdicts, Origin("m", ["dog", "cat"], tmp_path))
    names = {category["id"]: category["name"] for category in found["categories"]}
    assert list(names.values()) == ["dog", "cat", "unknown"] and 0 not in names
    images = {image["id"]: image for image in found["images"]}
    assert [image["file_name"] for image in images.values()] == ["in/a.jpg", "b.png"]
    assert [names[annotation["category_id"]] for annotation in found["annotations"]] == ["cat", "unknown"]
    for annotation, size in zip(found["annotations"], [(20, 40), (30, 10)], strict=True):
        image = images[annotation["image_id"]]
        assert (image["width"], image["height"]) == size and annotation["bbox"] == [0, 0, *size]
        assert annotation["area"] == size[0] * size[1] and annotation["iscrowd"] == 0
    assert [annotation["attributes"]["p_value"] for annotation in found["annotations"]] == [0.5, 0.004]
    assert found["annotations"][1]["attributes"]["nearest_class"] == "dog" and found["annotations"][1]["score"] == -3.0


def test_a_class_that_is_called_unknown_is_not_what_is_unknown(verdicts: list[Verdict], tmp_path: Path) -> None:
    found = document(verdicts, Origin("m", ["dog", "cat", "unknown"], tmp_path, "s3://b/"))
    names = [category["name"] for category in found["categories"]]
    assert len(set(names)) == 4 and found["annotations"][1]["category_id"] == 4
    assert found["images"][0]["file_name"] == "s3://b/in/a.jpg"


@pytest.mark.skipif(importlib.util.find_spec("pycocotools") is None, reason="pip install pycocotools")
def test_pycocotools_finds_the_unknown(verdicts: list[Verdict], tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    (tmp_path / "x.json").write_text(json.dumps(document(verdicts, Origin("m", ["dog", "cat"], tmp_path))))
    coco = COCO(str(tmp_path / "x.json"))
    assert coco.getImgIds(catIds=coco.getCatIds(catNms=["unknown"])) == [2]
