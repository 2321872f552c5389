"""Tasks for Label Studio, against the labelling interface that comes with them, and against its own checks."""

from __future__ import annotations

import importlib.util
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from lsn_core.handoff.label_studio import labelling_config, tasks
from lsn_core.handoff.verdict import Origin, Verdict

CLASSES = ["dog", 'a "b" & <c>']
FOLDER = Path("/data/new")
VERDICTS = [
    Verdict(FOLDER / "a b/ü#1.jpg", True, CLASSES[1], 1.5, -2.0, 0.7),
    Verdict(FOLDER / "x.jpg", False, "dog", -3.5, -2.0, 0.004),
]


def _check(task: dict[str, Any], config: ET.Element) -> None:
    """The guide to predictions, https://labelstud.io/guide/predictions, in a few lines."""
    objects = {
        tag.get("name"): tag for tag in config.iter() if (tag.get("value") or "").startswith("$") and tag.get("name")
    }
    controls = {tag.get("name"): tag for tag in config.iter("Choices")}
    assert all(tag.get("value", "")[1:] in task["data"] for tag in config.iter() if (tag.get("value") or "")[:1] == "$")
    for prediction in task["predictions"]:
        assert 0 <= prediction.get("score", 0) <= 1 and prediction["model_version"]
        assert len({region["id"] for region in prediction["result"]}) == len(prediction["result"])
        for region in prediction["result"]:
            control = controls[region["from_name"]]
            assert (
                region["type"] == "choices"
                and region["to_name"] == control.get("toName")
                and region["to_name"] in objects
            )
            (choice,) = region["value"]["choices"]
            assert choice in [tag.get("value") for tag in control.iter("Choice")]


def test_predictions_fit_the_interface() -> None:
    config = ET.fromstring(labelling_config(CLASSES))
    found = tasks(VERDICTS, Origin("m", CLASSES, FOLDER))
    for task in found:
        _check(task, config)
    chosen = [
        {region["from_name"]: region["value"]["choices"][0] for region in t["predictions"][0]["result"]} for t in found
    ]
    assert chosen == [{"verdict": "known", "class": CLASSES[1]}, {"verdict": "unknown"}]
    assert [task["predictions"][0]["score"] for task in found] == [0.7, 0.004]
    assert found[1]["data"]["nearest_class"] == "dog" and found[1]["data"]["score"] == -3.5


def test_without_a_calibration_there_is_no_score() -> None:
    (task,) = tasks([Verdict(FOLDER / "a.jpg", True, "dog", -9.0, None, None)], Origin("m", CLASSES, FOLDER))
    assert "score" not in task["predictions"][0] and not {"p_value", "threshold"} & set(task["data"])
    _check(task, ET.fromstring(labelling_config(CLASSES)))


def test_local_files_are_named_below_the_folder_above() -> None:
    (address, _) = (task["data"]["image"] for task in tasks(VERDICTS, Origin("m", CLASSES, FOLDER)))
    parts = urlsplit(address)
    assert parts.path == "/data/local-files/" and not parts.fragment
    assert Path("/data", parse_qs(parts.query)["d"][0]) == VERDICTS[0].path  # what the server makes of it


@pytest.mark.parametrize(
    ("prefix", "address"),
    [("https://h/p/", "https://h/p/a%20b/%C3%BC%231.jpg"), ("s3://bucket/p/", "s3://bucket/p/a b/ü#1.jpg")],
)
def test_a_prefix_stands_for_the_folder(prefix: str, address: str) -> None:
    assert tasks(VERDICTS, Origin("m", CLASSES, FOLDER, prefix))[0]["data"]["image"] == address


def test_many_classes_are_a_menu() -> None:
    for count, layout in ((20, None), (21, "select")):
        config = ET.fromstring(labelling_config([f"c{i}" for i in range(count)]))
        assert config.find("Choices[@name='class']").get("layout") == layout


@pytest.mark.skipif(importlib.util.find_spec("label_studio_sdk") is None, reason="pip install label-studio-sdk")
def test_label_studio_takes_them() -> None:
    from label_studio_sdk.label_interface import LabelInterface

    interface = LabelInterface(labelling_config(CLASSES))
    interface.validate()
    for task in tasks(VERDICTS, Origin("m", CLASSES, FOLDER)):
        assert interface.validate_task({"data": task["data"]})
        assert [
            interface.validate_prediction(prediction, return_errors=True) for prediction in task["predictions"]
        ] == [[]]
