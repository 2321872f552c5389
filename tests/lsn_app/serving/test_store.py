"""Detector files that visitors bring: who may use them, and which are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lsn_app.serving.store import Store
from lsn_app.shared.address import read_rate
from lsn_core import Backbone, Detector, UserError
from lsn_core.detector.file import read_detector_file


@pytest.fixture
def store(tiny_backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr("lsn_app.serving.store.load_backbone", lambda name: tiny_backbone)
    monkeypatch.setattr(tiny_backbone, "name", "embedded")
    return Store("embedded", public=True, detectors_dir=tmp_path / "none")


@pytest.fixture
def good(tiny_backbone: Backbone, store: Store, tmp_path: Path) -> Path:
    Detector.zero_shot(tiny_backbone, ["dog", "cat"]).save(tmp_path / "good.safetensors")
    return tmp_path / "good.safetensors"


def changed(path: Path, file: Path, tensors: dict[str, torch.Tensor] | None = None, **metadata: object) -> Path:
    old, kept = read_detector_file(path)
    save_file(kept | (tensors or {}), file, {"lsn": json.dumps(old | metadata)})
    return file


def test_an_uploaded_detector_is_offered_to_its_visitor_alone(store: Store, good: Path) -> None:
    label = store.add_upload(good, "mine.safetensors", "ann")
    assert store.add_upload(good, "mine.safetensors", "ann") == label
    assert store.offered("ann") == [("mine.safetensors (uploaded)", label)]
    assert store.detector(label)[0].class_names == ("dog", "cat")
    assert store.offered("ben") == [] and store.offered(None) == []
    assert store.add_upload(good, "mine.safetensors", "ben") != label
    good.unlink()
    with pytest.raises(UserError, match="no longer on the server"):
        store.detector(label)


def test_what_cannot_be_used_is_refused_with_its_name_and_the_reason(store: Store, good: Path, tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("this is no detector")
    save_file({"x": torch.zeros(2)}, tmp_path / "other.safetensors")
    wide = {"positive": torch.zeros(2, 9), "negative": torch.zeros(1, 2, 9)}
    cases = {
        "not a safetensors file": tmp_path / "text.safetensors",
        "not a detector saved by lsn_core": tmp_path / "other.safetensors",
        "schema 9": changed(good, tmp_path / "new.safetensors", schema=9),
        "Its scores would mean nothing": changed(good, tmp_path / "hash.safetensors", weights_hash="0" * 64),
        "this server runs only these": changed(good, tmp_path / "path.safetensors", backbone="local-dir:/etc"),
        "9 numbers, not 64": changed(good, tmp_path / "wide.safetensors", wide),
        "do not fit": changed(good, tmp_path / "shape.safetensors", {"negative": torch.zeros(1, 3, 64)}),
        "no score is called": changed(good, tmp_path / "score.safetensors", score="magic"),
        "config.method wrong": changed(good, tmp_path / "kind.safetensors", config={"method": []}),
        "calibration wrong": changed(
            good, tmp_path / "odd.safetensors", {"calibration": torch.zeros(2, dtype=torch.complex64)}
        ),
    }
    for words, path in cases.items():
        with pytest.raises(UserError, match=f"(?i){words}") as caught:
            store.add_upload(path, "given.safetensors", "ann")
        assert (
            "given.safetensors" in str(caught.value)
            and path.name not in str(caught.value)
            and str(tmp_path) not in str(caught.value)
        )
    assert store.offered("ann") == []


def test_rates_from_an_address_are_numbers_in_range() -> None:
    assert read_rate("0.9", 0.8, 0.99) == 0.9
    assert [read_rate(text, 0.8, 0.99) for text in ("nan", "2", "", None, "x")] == [None] * 5
