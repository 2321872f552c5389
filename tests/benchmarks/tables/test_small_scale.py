"""Tables of the small-scale sets, end to end on made-up sets: seeds, light runs, and their parts of the page."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from support import fewer_updates, fill_folders, unit_vectors

from benchmarks.harness import options
from benchmarks.harness.protocols import FILES
from benchmarks.page import NOT_YET, sections
from benchmarks.tables import figure7, table11
from benchmarks.tables.__main__ import main
from lsn_core import get_preset
from lsn_core.backbones.backbone import Backbone
from lsn_core.prompts.nouns import _features as noun_cache
from lsn_core.prompts.nouns import nouns

LIGHT = ["MCM", "names alone", "CoOp + LSN", "default detector without negatives", "default detector"]
THINGS = ["tench", "church", "parachute", "chainsaw", "golf ball", "gas pump"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sets in the layout of the real ones."""
    folder = tmp_path_factory.mktemp("data")
    split = json.loads((FILES / "zoc_splits.json").read_text())["CIFAR10"]["splits"][0]
    for name, classes in (
        ("cifar10", [*split["id_names"], *split["ood_names"]]),
        ("imagenette", THINGS),
        ("tinyimagenet", [f"thing {word}" for word in "abcdefgh"]),
    ):
        fill_folders(folder / name / "train", classes, 6)
        fill_folders(folder / name / "val", classes, 4)
    for place in ("flowers/test", "sun/test", "miniplaces/val", "textures/test"):
        fill_folders(folder / place, ["other"], 4)
    return folder


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tiny_backbone: Backbone) -> None:
    """A small backbone with made-up nouns, few updates, few classes."""
    monkeypatch.setitem(noun_cache, tiny_backbone, unit_vectors(len(nouns()), 1, tiny_backbone.dim))  # type: ignore[arg-type]
    monkeypatch.setattr(options, "load_backbone", lambda *names: tiny_backbone)
    monkeypatch.setattr(options, "get_preset", lambda name, **changes: fewer_updates(get_preset(name, **changes), 2, 2))
    monkeypatch.setattr(table11, "COUNTS", (2, 4, 8))
    monkeypatch.setattr(figure7, "SHOTS", (1, 4))


def run(monkeypatch: pytest.MonkeyPatch, data: Path, folder: Path, *arguments: str) -> None:
    where = ["--data", data, "--out", folder / "out", "--cache", folder / "cache"]
    how = ["--shots", "5", "--seeds", "0,1", "--draws", "10", "--protocols", "CIFAR10"]
    monkeypatch.setattr(sys, "argv", ["tables", *map(str, [*arguments, *where, *how])])
    main()


def read(path: Path) -> list[dict[str, str]]:
    with open(path) as file:
        return list(csv.DictReader(file))


def test_table_3_tells_each_seed_and_a_light_run_keeps_the_other_methods(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(monkeypatch, data, tmp_path, "table3", "--methods", ",".join(LIGHT))
    before = json.loads((tmp_path / "out" / "table3.json").read_text())
    assert [row["method"] for row in before["rows"]] == LIGHT * 2  # CIFAR10 and the average
    for row in before["rows"]:
        assert row["auroc_low"] <= row["auroc_high"] and row["n"] == 5
        assert (row["auroc_seeds"] is None) == (row["method"] in ("MCM", "names alone"))
    learned = [row for row in before["by_seed"] if row["method"] == "default detector" and row["protocol"] == "average"]
    assert [row["seed"] for row in learned] == [0, 1]
    (mean,) = (row for row in before["rows"][len(LIGHT) :] if row["method"] == "default detector")
    assert mean["auroc"] == pytest.approx(np.mean([row["auroc"] for row in learned]), abs=0.02)
    assert len(read(tmp_path / "out" / "table3_details.csv")) == 5 * (2 + 2 * (len(LIGHT) - 2))

    run(monkeypatch, data, tmp_path, "table3", "--methods", "KNN")
    after = json.loads((tmp_path / "out" / "table3.json").read_text())
    assert {row["method"] for row in after["rows"]} == {*LIGHT, "KNN"}
    assert [row for row in after["rows"] if row["method"] != "KNN"] == before["rows"]
    assert len(read(tmp_path / "out" / "table3_details.csv")) == 5 * (2 + 2 * (len(LIGHT) - 1))
    run(
        monkeypatch, data, tmp_path, "table3", "--methods", "KNN", "--preset", "paper"
    )  # another setting: nothing is kept
    rows = json.loads((tmp_path / "out" / "table3.json").read_text())["rows"]
    assert {row["method"] for row in rows} == {"MCM", "KNN"}


def test_tables_that_train_fill_their_parts_of_the_page(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(monkeypatch, data, tmp_path, "table4", "table5", "table7", "table11", "figure7")
    made = {marker: text for _, marker, text in sections(tmp_path / "out")}
    for marker in ("table4", "table5", "table7", "table11", "figure7"):
        lines = made[marker].splitlines()
        assert len({line.count(" | ") for line in lines}) == 1, marker
        assert "MCM" in made[marker], marker
    assert made["table3"] == NOT_YET
    assert "w/o positive prompts" in made["table4"] and "DualCoOp" in made["table7"]
    # With all eight classes known, only the other set is unknown.
    assert [line.split(" | ")[-1].strip(" |") == "-" for line in made["table11"].splitlines()[2:]] == [True] * 5 + [
        False
    ] * 5


def test_an_unknown_protocol_or_method_is_said(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="no method 'nonsense'"):
        run(monkeypatch, data, tmp_path, "table3", "--methods", "nonsense")
    monkeypatch.setattr(sys, "argv", ["tables", "table3", "--data", str(data), "--protocols", "MNIST"])
    with pytest.raises(SystemExit, match="no protocol 'MNIST'"):
        main()
