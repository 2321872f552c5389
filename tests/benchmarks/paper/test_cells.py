"""Every number of the paper's large-scale tables has its cell, and selections leave what they say."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

from benchmarks.harness.protocols import FILES
from benchmarks.paper.cells import CLAIMS, METHODS, choose_cells
from benchmarks.paper.wanted import Wanted
from lsn_core import UserError

SMALL_SCALE = {"Table 3"}


def test_every_row_of_the_papers_large_scale_tables_is_a_claim_and_no_other() -> None:
    paper = json.loads((FILES / "paper.json").read_text())
    for table, rows in paper.items():
        if table != "source" and table not in SMALL_SCALE:
            assert {claim.row for claim in CLAIMS if claim.table == table} == set(rows), table


def test_equal_numbers_of_the_paper_are_one_cell() -> None:
    """Table 4's full model, Table 9's ViT-B/16 and Table 11's ImageNet-100 are Table 1's CoCoOp + LSN."""
    paper = json.loads((FILES / "paper.json").read_text())
    same = [c for c in CLAIMS if (c.backbone, c.classes, c.method) == ("ViT-B/16", "ImageNet-100", "CoCoOp + LSN")]
    assert [(c.table, c.row) for c in same] == [
        ("Table 1", "CoCoOp + LSN"),
        ("Table 4", "full model"),
        ("Table 9", "LSN/CLIP-B/16"),
        ("Table 11", "ImageNet-100/LSN"),
    ]
    assert {paper[c.table][c.row]["Average"]["fpr95"] for c in same} == {8.56}


def test_without_a_selection_it_is_all_of_the_paper_for_each_preset_and_seed() -> None:
    cells = choose_cells([], [], [], ["paper", "fast"], [0, 1, 2])
    places = {(claim.backbone, claim.classes, claim.method) for claim in CLAIMS}
    assert {(cell.backbone, cell.classes, cell.method) for cell in cells} == places
    count = {True: 6, False: 3}
    wanted = sum(count[METHODS[m].has_preset] if METHODS[m].learns else 1 for _, _, m in places)
    assert len(cells) == len(set(cells)) == wanted


def test_cells_of_one_training_stand_together() -> None:
    trainings = [cell.training for cell in choose_cells([], [], [], ["paper", "fast"], [0, 1]) if cell.how.learns]
    changes = sum(a != b for a, b in pairwise(trainings))
    assert changes + 1 == len(set(trainings)) < len(trainings)


def test_what_the_paper_has_no_number_for_takes_all() -> None:
    with pytest.raises(UserError, match="add --all"):
        choose_cells(["RN50x4"], ["ImageNet-10"], [], ["paper"], [0])
    cells = choose_cells(["RN50x4"], ["ImageNet-10"], [], ["paper"], [0], everything=True)
    assert [cell.method for cell in cells] == ["MCM", "CoOp", "CoOp + LSN", "CoCoOp", "CoCoOp + LSN"]
    own = choose_cells(["local-dir:mine"], ["ImageNet-20"], [], ["paper"], [0])
    assert [cell.method for cell in own] == ["MCM", "CoCoOp + LSN"]
    with pytest.raises(UserError, match="no method 'LSN'"):
        choose_cells([], [], ["LSN"], ["paper"], [0])


def test_training_is_the_papers_with_all_shots_to_learn_from(tmp_path) -> None:
    wanted = Wanted(tmp_path)
    (cell,) = choose_cells([], ["ImageNet-1k"], ["CoCoOp + LSN"], ["paper"], [2])
    config = wanted.config(cell)
    assert (config.shots, config.seed, config.calibration_share, config.choose_score) == (64, 2, 0.0, False)
    assert (config.method, config.positive.context_length, config.negative.sets, config.reg_weight) == (
        "cocoop",
        4,
        3,
        0.1,
    )
    (cell,) = choose_cells([], ["ImageNet-100"], ["w/o semantic orthogonality loss"], ["reference"], [0])
    config = Wanted(tmp_path, shorten=3).config(cell)
    assert (config.shots, config.reg_weight, config.positive.updates, config.negative.updates) == (128, 0.0, 3, 3)
    (cell,) = choose_cells(["ViT-B/16"], ["ImageNet-100"], ["CoOp"], ["reference"], [0])
    in_turn = Wanted(tmp_path, shorten=3).config(cell).negative
    assert (in_turn.updates, in_turn.epochs, in_turn.batches(12_800)) == (None, 3, 1)
