"""The commands that make tables, on folders in the layout of the paper's large-scale sets."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest
from support import fewer_updates, make_folders

from benchmarks.harness import options
from benchmarks.tables.__main__ import TABLES, main
from lsn_core import get_preset

FEW = ("--shots", "4", "--seeds", "0,1", "--draws", "20")


@pytest.fixture(autouse=True)
def short_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """What tables are made of is the same after a few updates."""
    monkeypatch.setattr(options, "get_preset", lambda name, **changes: fewer_updates(get_preset(name, **changes), 5, 5))


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> None:
    monkeypatch.setattr(sys, "argv", ["tables", *map(str, arguments)])
    main()


def read(folder: Path, name: str) -> tuple[list[dict[str, str]], dict]:
    assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    return read_csv(folder / f"{name}.csv"), json.loads((folder / f"{name}.json").read_text())


def read_csv(path: Path) -> list[dict[str, str]]:
    with open(path) as file:
        return list(csv.DictReader(file))


def test_the_papers_setting_runs_on_folders_and_repeats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    id_root, ood_root = make_folders(tmp_path, per_class=8)
    where = ("--id-root", id_root, "--ood-root", ood_root, "--protocols", "mine")
    methods = "MCM,GL-MCM,ViM,KNN,CoOp,CoOp + LSN,default detector"
    found = []
    for attempt in ("one", "two"):
        out, cache = tmp_path / attempt, tmp_path / f"cache {attempt}"
        run(monkeypatch, "table1", *where, "--methods", methods, *FEW, "--out", out, "--cache", cache)
        rows, record = read(out, "table1")
        found.append(rows)
        assert {(row["ood"], row["method"]) for row in rows} == {
            (ood, method) for ood in ("dtd", "iNaturalist", "average") for method in methods.split(",")
        }
        assert record["seed"] == [0, 1]
        assert len(record["weights_hash"]) == 64
        assert record["versions"]["torch"]
        assert record["seconds"]["all"] > 0
        assert all(0 <= float(row["auroc"]) <= 1 for row in read_csv(out / "table1_details.csv"))
    assert found[0] == found[1]


def test_figures_9_to_12_count_for_each_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    id_root, ood_root = make_folders(tmp_path)
    run(
        monkeypatch,
        "figures9-12",
        "--id-root",
        id_root,
        "--ood-root",
        ood_root,
        "--protocols",
        "mine",
        "--out",
        tmp_path / "out",
        "--cache",
        tmp_path / "cache",
    )
    rows, _ = read(tmp_path / "out", "figures9-12")
    assert [row["ood"] for row in rows] == ["dtd", "iNaturalist"]
    details = read_csv(tmp_path / "out" / "figures9-12_details.csv")
    assert [row["class"] for row in details] == ["Siamese cat", "common sorrel horse", "container ship"] * 2
    for row in rows:
        shares = [int(d["chose_not"]) / int(d["images"]) for d in details if d["ood"] == row["ood"]]
        assert float(row["chose_not"]) == pytest.approx(100 * sum(shares) / 3, abs=0.01)


def test_every_paper_table_has_a_command() -> None:
    numbers = (1, 3, 4, 5, 7, 9, 10, 11)
    assert {*(f"table{number}" for number in numbers), "figure7", "figures9-12"} <= set(TABLES)


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="--id-root and --ood-root belong together"):
        run(monkeypatch, "table1", "--id-root", tmp_path)
    with pytest.raises(SystemExit, match="--data is missing"):
        run(monkeypatch, "table3")
