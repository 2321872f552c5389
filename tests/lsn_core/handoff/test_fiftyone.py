"""A dataset for FiftyOne: its form, and what FiftyOne's own importer makes of it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from lsn_core.handoff.files import Format, open_handoff
from lsn_core.handoff.verdict import Origin

LINES = [
    {"file": "a.jpg", "verdict": "ID", "predicted_class": "dog", "score": 1.5, "threshold": -2.0, "p_value": 0.7},
    {"file": "b.jpg", "verdict": "OOD", "predicted_class": "cat", "score": -3.5, "threshold": -2.0, "p_value": 0.004},
]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    with open_handoff(Format.FIFTYONE, tmp_path / "set", Origin("m", ["dog", "cat"], Path.cwd())) as write:
        for line in LINES:
            write({**line, "error": None})
    return tmp_path / "set"


def test_samples_have_all_that_a_verdict_says(dataset: Path) -> None:
    assert sorted(path.name for path in dataset.iterdir()) == ["metadata.json", "samples.json"]
    metadata = json.loads((dataset / "metadata.json").read_text())
    assert (
        "version" not in metadata and metadata["media_type"] == "image"
    )  # a version would ask for a database's own form
    samples = json.loads((dataset / "samples.json").read_text())["samples"]
    assert [sample["filepath"] for sample in samples] == [str(Path.cwd() / line["file"]) for line in LINES]
    assert [sample["verdict"]["label"] for sample in samples] == ["known", "unknown"]
    for sample, line in zip(samples, LINES, strict=True):
        assert sample["nearest_class"] == {"_cls": "Classification", "label": line["predicted_class"]}
        assert {name: sample[name] for name in ("score", "threshold", "p_value")} == {
            name: line[name] for name in ("score", "threshold", "p_value")
        }


@pytest.mark.skipif(importlib.util.find_spec("fiftyone") is None, reason="pip install fiftyone")
def test_fiftyone_reads_it(dataset: Path) -> None:
    from fiftyone.utils.data import FiftyOneDatasetImporter
    from fiftyone.utils.data.importers import _handle_legacy_formats

    # As Dataset.from_dir does, and without the database that a dataset needs.
    with _handle_legacy_formats(FiftyOneDatasetImporter(str(dataset))) as importer:
        samples = list(importer)
    assert [sample.verdict.label for sample in samples] == ["known", "unknown"]
    assert [sample.nearest_class.label for sample in samples] == ["dog", "cat"]
    assert [sample.p_value for sample in samples] == [0.7, 0.004]
