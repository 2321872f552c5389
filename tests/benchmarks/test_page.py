"""The tables in the pages are those of the committed results, beside the paper's figures."""

from __future__ import annotations

import json

import pytest

from benchmarks.harness.cells import mean
from benchmarks.harness.protocols import FILES, ZOC
from benchmarks.page import sections
from benchmarks.tables.table1 import table1_section
from benchmarks.tables.table3 import table3_section


@pytest.mark.parametrize("place", range(len(sections())))
def test_the_pages_hold_the_committed_results(place: int) -> None:
    page, marker, text = sections()[place]
    _, _, rest = page.read_text().partition(f"<!-- {marker} -->\n")
    assert rest.partition(f"\n<!-- /{marker} -->")[0] == text


def test_the_papers_figures_stand_in_brackets() -> None:
    paper = json.loads((FILES / "paper.json").read_text())["Table 3"]
    rows = [
        {"protocol": protocol, "method": "CoOp + LSN", "auroc": 80.0, "fpr95": 60.0} for protocol in (*ZOC, "average")
    ]
    text = table3_section(rows, paper)
    assert "80.00 (95.23)" in text and "60.00 (25.16)" in text  # CIFAR10 in Table 3
    assert "ZOC" in text and "(93.00)" in text  # not run here, but reported there
    assert mean(paper["CoOp + LSN"], "auroc") == pytest.approx((95.23 + 86.14 + 98.75 + 98.21 + 88.15) / 5)


def test_the_paper_s_imagenet_10_stands_beside_its_stand_in() -> None:
    paper = json.loads((FILES / "paper.json").read_text())["Table 11"]
    rows = [{"ood": "SUN", "method": "MCM", "auroc": 99.0, "fpr95": 1.0, "id_accuracy": 98.0}]
    assert "99.78 / 0.33" in table1_section(rows, paper)
