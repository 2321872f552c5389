"""A table made on a Ray cluster is that of one process, byte for byte."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support import fill_folders
from support_ray import Machines, two_machines

from benchmarks.harness.protocols import FILES
from benchmarks.harness.units import here, units_of
from benchmarks.tables.__main__ import main

METHODS = "MCM,max cosine,KNN,ViM"


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    with two_machines() as machines:
        yield machines


@pytest.fixture
def data(tmp_path: Path) -> Path:
    split = json.loads((FILES / "zoc_splits.json").read_text())["CIFAR10"]["splits"][0]
    for part, count in (("train", 4), ("val", 3)):
        fill_folders(tmp_path / "cifar10" / part, [*split["id_names"], *split["ood_names"]], count)
    return tmp_path


def test_a_table_made_on_a_cluster_is_that_of_one_process(
    machines: Machines, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # as many as a machine of the cluster has CPUs
    for folder, more in (("plain", []), ("ray", ["--ray", machines.address])):
        where = ["--data", data, "--out", tmp_path / folder, "--cache", tmp_path / f"cache {folder}"]
        how = ["--shots", "3", "--seeds", "0,1", "--draws", "5", "--protocols", "CIFAR10", "--methods", METHODS]
        monkeypatch.setattr(sys, "argv", ["tables", "table3", *map(str, [*where, *how, *more])])
        main()
    for name in ("table3.csv", "table3_details.csv"):
        assert (tmp_path / "ray" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()
    assert len((tmp_path / "ray" / "table3_details.csv").read_text().splitlines()) == 1 + 5 * (2 + 2 * 2)


def test_units_are_those_of_the_call_that_is_meant() -> None:
    clock = defaultdict(float)

    def table(run) -> None:
        first = run([lambda: [{"row": 1}]], clock)
        second = run([lambda: [{"row": 2, "after": len(first)}], lambda: [{"row": 3}]], clock)
        assert [row["row"] for row in first + second] == [1, 2, 3]

    table(here)
    assert [unit() for unit in units_of(table, 0)[0]] == [[{"row": 1}]]
    assert [unit() for unit in units_of(table, 1)[0]] == [[{"row": 2, "after": 0}], [{"row": 3}]]
    with pytest.raises(ValueError, match="no call 2"):
        units_of(lambda run: (run([], clock), run([], clock)), 2)
