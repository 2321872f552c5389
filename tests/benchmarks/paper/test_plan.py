"""What a run will cost is counted up from steps: once for each training, and once for the images of each setting."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.paper.cells import choose_cells
from benchmarks.paper.plan import Sizes, plan, plan_table
from benchmarks.paper.rates import Rates, load_rates, measure_rates, save_rates
from benchmarks.paper.wanted import Wanted
from lsn_core.backbones.backbone import Backbone

VIT = "ViT-B/16"
STEP = {
    "ImageNet-100, positive, 1 sets, shared, name, 16 vectors": 1.0,
    "ImageNet-100, negative, 3 sets, specific, name, 16 vectors": 10.0,
    "ImageNet-100, negative, 1 sets, specific, name, 16 vectors": 4.0,
    "ImageNet-100, positive, 1 sets, shared, name, 4 vectors": 1.0,
}


def rates(**more: object) -> Rates:
    given = {"device": "cpu", "machine": {}, "image": 0.5, "parameters": 10**8, "dim": 512, "steps": STEP}
    return Rates(**given | {"activations": dict.fromkeys(STEP, 2.0), "score": {"ImageNet-100": 1e-3}} | more)  # type: ignore[arg-type]


def test_the_real_run_is_counted_in_the_papers_epochs(tmp_path: Path) -> None:
    cells = choose_cells([VIT], ["ImageNet-100"], ["MCM", "CoOp", "CoOp + LSN"], ["paper", "reference"], [0, 1])
    mcm, first, second, turns, _ = plan(cells, Wanted(tmp_path), {VIT: rates()}, Sizes.real())
    images = 100 * 50 + 10_000 * 3 + 5_640
    assert mcm.encoding == 0.5 * images
    assert mcm.scoring == pytest.approx(1e-3 * images)
    # 128 images of each class in batches of 8: 50 passes for positive, 100 for negative prompts.
    batches = 12_800 // 8
    assert [cell.method for cell in first.cells] == ["CoOp", "CoOp + LSN"]
    assert (first.updates, first.training) == (150 * batches, 50 * batches * 1.0 + 100 * batches * 10.0)
    assert (first.encoding, second.encoding) == (0.5 * 12_800, 0.5 * 12_800)  # each seed draws its own
    assert turns.encoding == 0  # the same images as those of the first preset
    assert turns.training == 50 * batches * 1.0 + 3 * 100 * batches * 4.0
    assert 3.0 < first.memory < 7.0


def test_short_schedules_samples_and_other_backbones_cost_what_they_say(tmp_path: Path) -> None:
    cells = choose_cells([VIT, "RN50x4"], ["ImageNet-100"], ["CoCoOp + LSN"], ["paper"], [0])
    wanted = Wanted(tmp_path, shorten=2, cocoop_images=3)
    (line,) = plan(cells, wanted, {VIT: rates(conditional={"ImageNet-100": 7.0})}, Sizes.real())
    assert (line.updates, line.training, line.scoring) == (4, 2 * 1.0 + 2 * 10.0, 3 * 5 * 7.0)
    assert "| ViT-B/16 | ImageNet-100 | CoCoOp | paper | 1 | 4 |" in plan_table([line])


def test_rates_are_measured_kept_and_read_again(tmp_path: Path, tiny_backbone: Backbone) -> None:
    wanted = Wanted(tmp_path)
    methods = ["MCM", "MSP", "CoOp + LSN", "CoCoOp + LSN", "DualCoOp"]
    cells = choose_cells([VIT], ["ImageNet-20"], methods, ["paper", "reference", "fast"], [0], everything=True)
    found = measure_rates(tiny_backbone, wanted, cells, None)
    assert found.fit > 0 and found.image > 0 and found.dim == 64
    assert min(*found.steps.values(), *found.score.values(), *found.conditional.values()) > 0
    # CoCoOp's step of 8 images costs more than that of one.
    one, eight = (found.steps[f"ImageNet-20, negative, {n} sets, specific, name, 16 vectors"] for n in (3, 24))
    assert eight > 2 * one
    save_rates(tmp_path / "rates.json", {VIT: found})
    assert load_rates(tmp_path / "rates.json") == {VIT: found}
    lines = plan(cells, wanted, {VIT: found}, Sizes.real())
    assert len(lines) == len({cell.training for cell in cells})
    assert all(line.seconds > 0 for line in lines)
