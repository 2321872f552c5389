"""What is written down of a try: the cost of the real run by tried steps, and no detection number."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.paper.cells import choose_cells
from benchmarks.paper.plan import Sizes, plan
from benchmarks.paper.rates import measure_rates, save_rates
from benchmarks.paper.record import path_of, write_record
from benchmarks.paper.trial import STARTS
from benchmarks.paper.tried import write
from benchmarks.paper.wanted import Wanted
from lsn_core import UserError
from lsn_core.backbones.backbone import Backbone

VIT = "ViT-B/16"


def test_the_real_run_is_counted_up_beside_what_the_try_took(tmp_path: Path, tiny_backbone: Backbone) -> None:
    run, wanted = tmp_path / "run", Wanted(tmp_path / "run", shorten=2)
    cells = choose_cells([VIT], ["ImageNet-10"], [], ["paper", "fast"], [0])
    rates = {VIT: measure_rates(tiny_backbone, wanted, cells, None)}
    save_rates(run / "rates.json", rates)
    with pytest.raises(UserError, match="no measured cells"):
        write(run, tmp_path, None)
    for cell in cells:
        values = {
            "status": "measured",
            "shorten": 2,
            "training_images": 20,
            "metrics": {"Average": {"auroc": 12.3456}},
            "seconds": {"encoding": 1.0, "training": 2.5, "training_processor": 1.25, "scoring": 0.5},
            "peak_gib": {"memory": 1.5},
        }
        write_record(run, cell, values)
    failed = choose_cells([VIT], ["ImageNet-20"], ["MCM"], [], [0])[0]
    write_record(run, failed, {"status": "failed", "needs": "weights", "shorten": 2})
    with pytest.raises(UserError, match="holds 1 cells that failed, such as ViT-B-16_ImageNet-20_MCM"):
        write(run, tmp_path, None)
    path_of(run, failed).unlink()
    (run / STARTS).write_text("started 1\nstarted 2\nended 3\n")
    docs = tmp_path / "page.md"
    docs.write_text("before\n<!-- costs -->\n<!-- /costs -->\nafter\n")
    write(run, tmp_path, docs)
    found = json.loads((tmp_path / "paper_made_up.json").read_text())
    assert found["made_up"] is True
    assert len(found["cells"]) == len(cells) == 3  # MCM, and CoCoOp + LSN by two presets
    assert "12.3456" not in json.dumps(found)
    whole = choose_cells([VIT], ["ImageNet-10"], [], ["paper", "reference", "fast"], [0, 1, 2])
    # The presets reference and paper take the same steps.
    lines = plan(whole, Wanted(run), rates, Sizes.real())
    assert sum(line["training"] for line in found["extrapolated"]) == pytest.approx(
        sum(line.training for line in lines), abs=1.0
    )
    text = (tmp_path / "paper_made_up.md").read_text()
    assert (
        "extrapolated, not measured" in text and "| ViT-B/16 | ImageNet-10 | CoCoOp | paper | 4 | 2.5 | 1.2 |" in text
    )
    assert "| cells on | ImageNet-10 | presets |" in text and "| ViT-B/16 | 3 | paper, fast |" in text
    assert "It was killed once on its way" in text and found["cut_short"] == 1
    assert "On a GPU" not in text
    on_gpu = {VIT: vars(rates[VIT]) | {"machine": {"gpu": "a GPU of the test"}}}
    (tmp_path / "gpu.json").write_text(json.dumps({"paper_rates": on_gpu}))
    write(run, tmp_path, docs)
    assert "On a GPU (a GPU of the test): extrapolated" in (tmp_path / "paper_made_up.md").read_text()
    assert "Extrapolated from steps" in docs.read_text() and docs.read_text().endswith("after\n")
