"""The comparison of text towers runs, and would show a difference."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import REPO

from benchmarks import towers
from benchmarks.stand_ins import stand_in
from benchmarks.towers import EXACT, counts, difference, page, run
from lsn_core.backbones.text_towers import WholeText


def test_an_exact_tower_is_told_so() -> None:
    row = run("ViT-B-16-SigLIP", quick=False, whole=False)
    assert row["ran"] and row["exact"] and row["error"] == "" and row["tower"] == "WholeText"
    told = page([{"name": "ViT-B-16-SigLIP:webli", "parameters": 2e8, "promptable": True, **row}])
    assert "| `ViT-B-16-SigLIP:webli` | 200 | yes | WholeText | reduced depth | yes |" in told


def test_one_that_differs_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = stand_in("ViT-B-16-SigLIP", tmp_path, reduced=True, vocabulary=400)
    assert difference(backbone) <= EXACT
    monkeypatch.setattr(backbone.text, "project", lambda x: WholeText.project(backbone.text, x) + 1e-3)
    assert difference(backbone) > EXACT


def test_what_cannot_run_is_a_row_with_its_error() -> None:
    row = run("no such architecture", quick=False, whole=False)
    assert not row["ran"] and not row["exact"] and row["error"]
    assert counts([{"promptable": False, **row}]) == {"tags": 1, "promptable": 0, "ran": 0, "ran_whole": 0, "exact": 0}


def test_a_part_of_the_models_leaves_the_table_of_all_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(towers, "RESULTS", tmp_path / "all")
    monkeypatch.setattr("sys.argv", ["towers", "--only", "vit-b-16-siglip:webli", "--largest", "0"])
    towers.main()
    assert "| `ViT-B-16-SigLIP:webli` | 203 | yes | WholeText | reduced depth | yes |" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr("sys.argv", ["towers", "--only", "no such model"])
    with pytest.raises(SystemExit, match="no model whose name holds 'no such model'"):
        towers.main()


def test_all_of_open_clips_models_are_in_the_table() -> None:
    import open_clip

    text = (REPO / "benchmarks" / "results" / "towers.md").read_text(encoding="utf-8")
    assert all(f"`{arch}:{tag}`" in text for arch, tag in open_clip.list_pretrained())
