"""A cell's file is trusted only where it is whole and of the same settings."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.paper.cells import Cell
from benchmarks.paper.record import is_done, path_of, read_all, write_record

CELL = Cell("ViT-B/16", "ImageNet-10", "CoOp + LSN", "paper", 0)


def test_a_file_is_trusted_until_it_is_damaged_or_of_other_settings(tmp_path: Path) -> None:
    write_record(tmp_path, CELL, {"status": "measured", "fingerprint": "abc", "metrics": {"auroc": 1.5}})
    path = path_of(tmp_path, CELL)
    assert path.name == "ViT-B-16_ImageNet-10_CoOp-+-LSN_paper_seed0.json"
    assert is_done(tmp_path, CELL, "abc")
    assert not is_done(tmp_path, CELL, "abd")
    whole = path.read_text()
    for damaged in (whole[:-20], whole.replace("1.5", "2.5"), "", "[]", json.dumps({"status": "measured"})):
        path.write_text(damaged)
        assert not is_done(tmp_path, CELL, "abc"), damaged
        assert read_all(tmp_path) == []
    path.write_text(whole)
    assert [record["metrics"] for record in read_all(tmp_path)] == [{"auroc": 1.5}]


def test_a_cell_that_failed_is_tried_again(tmp_path: Path) -> None:
    write_record(tmp_path, CELL, {"status": "failed", "fingerprint": "abc", "needs": "weights"})
    assert not is_done(tmp_path, CELL, "abc")
