"""The trial makes its tree once, goes through all parts, and its parts have every kind of cell on every backbone."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from benchmarks.paper import trial
from benchmarks.paper.cells import BACKBONES, METHODS
from benchmarks.paper.options import chosen, parser
from benchmarks.paper.trial import PARTS, SHORT, STARTS, make, try_all
from lsn_core.training.presets import PRESETS


def test_its_parts_have_every_kind_of_cell() -> None:
    cells = []
    for titles, part in PARTS[1:]:
        cells += chosen(parser(None).parse_args([*SHORT, *part, "--backbones", ",".join(titles)]))[0]
    for backbone in BACKBONES:
        kinds = {(cell.how.learns, cell.preset) for cell in cells if cell.backbone == backbone}
        assert {("", None), *(("coop", preset) for preset in PRESETS if preset != "paper")} <= kinds
        assert {("cocoop", "reference"), ("cocoop", "fast"), ("dualcoop", "fast")} <= kinds
    changes = {cell.how.change for cell in cells if cell.how.learns == "cocoop" and cell.preset == "paper"}
    assert changes == {method.change for method in METHODS.values()}
    large = {(cell.method, cell.preset) for cell in cells if cell.classes == "ImageNet-1k"}
    assert large == {("MCM", None), ("CoOp", "fast"), ("CoOp + LSN", "fast")}
    small = {cell.method for cell in cells if cell.how.learns == "features"}
    assert {"MSP", "ViM", "VOS"} <= small


def test_the_tree_is_made_once_and_all_parts_are_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[argparse.Namespace] = []
    made: list[str] = []

    def write_weights(architecture: str, folder: Path) -> str:
        made.append(architecture)
        return f"{architecture}:{folder}"

    def run(options: argparse.Namespace) -> int:
        asked.append(options)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return 1

    monkeypatch.setattr(trial, "write_weights", write_weights)
    monkeypatch.setattr(trial, "wnids", lambda count: ["n02123597"])
    monkeypatch.setattr(trial, "run", run)
    with pytest.raises(KeyboardInterrupt):
        try_all(tmp_path)
    assert try_all(tmp_path) == len(PARTS)
    assert made == ["ViT-B-16", "ViT-B-32", "RN50x4", "RN50", "blip"]
    assert make(tmp_path)["BLIP"] == f"blip:{tmp_path}"
    assert [options.plan for options in asked[2:]] == [True, False, False, False, False]
    assert {options.shorten for options in asked} == {1}
    lines = (tmp_path / "run" / STARTS).read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["started", "started", "ended"]
