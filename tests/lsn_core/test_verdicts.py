"""Verdicts as files, and the unknown images as a folder."""

from __future__ import annotations

import csv
import json
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from support import run_inside

from lsn_core import Backbone, UserError
from lsn_core.data.feature_cache import DiskFeatureCache
from lsn_core.verdicts import COLUMNS, Folder, open_writer


@pytest.fixture
def photos(examples: Path, tmp_path: Path) -> Path:
    for name in ("a/dog", "b/dog", "b/=zebra"):
        target = tmp_path / "photos" / f"{name}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(examples / f"{target.stem.lstrip('=')}.jpg", target)
    (tmp_path / "photos" / "b" / "broken.jpg").write_bytes(b"no picture")
    return tmp_path / "photos"


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_the_file_says_what_the_lines_say(photos: Path, tmp_path: Path, ending: str) -> None:
    out = tmp_path / f"verdicts.{ending}"
    done = run_inside("score", "--classes", "dog,cat", "--json", "--out", out, photos)
    assert done.returncode == 1  # one cannot be read
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    if ending == "jsonl":
        found = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
        assert found == lines
    elif ending == "parquet":
        assert pq.read_table(out).to_pylist() == [{name: line[name] for name in COLUMNS} for line in lines]
    else:
        rows = list(csv.DictReader(out.read_text(encoding="utf-8-sig").splitlines()))
        assert [row["verdict"] for row in rows] == [line["verdict"] or "" for line in lines]
        assert [float(row["score"] or 0) for row in rows] == [line["score"] or 0 for line in lines]
        assert all(not row["file"].startswith("=") for row in rows)
    assert len(lines) == 4 and not list(tmp_path.glob(".*.part"))


def test_the_unknown_are_copied_with_their_names(photos: Path, tmp_path: Path, examples: Path) -> None:
    done = run_inside("score", "--classes", "dog,cat", "--copy-unknown", tmp_path / "unknown", photos)
    copied = {str(path.relative_to(tmp_path / "unknown")) for path in (tmp_path / "unknown").rglob("*.jpg")}
    assert copied == {"b/=zebra.jpg"} and done.returncode == 1
    assert (tmp_path / "unknown/b/=zebra.jpg").read_bytes() == (examples / "zebra.jpg").read_bytes()
    again = run_inside("score", "--classes", "dog,cat", "--copy-unknown", tmp_path / "unknown", photos)
    assert again.returncode == 2 and "not empty" in again.stderr


def test_names_in_a_zip_do_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "new", ["../../x.jpg", "C:\\y\\x.jpg", "x.jpg"])
    for name in ("../../x.jpg", "C:\\y\\x.jpg", "/x.jpg", "x.jpg"):
        assert folder.put(name, b"1").resolve().is_relative_to((tmp_path / "new").resolve())
    assert len([path for path in (tmp_path / "new").rglob("*") if path.is_file()]) == 4


def test_a_zip_is_scored_and_its_unknown_copied(tmp_path: Path, examples: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.write(examples / "zebra.jpg", "in/zebra.jpg")
        archive.write(examples / "dog.jpg", "in/dog.jpg")
    done = run_inside(
        "score",
        "--classes",
        "dog,cat",
        "--copy-unknown",
        tmp_path / "unknown",
        "--out",
        tmp_path / "x.csv",
        tmp_path / "set.zip",
    )
    assert done.returncode == 0 and done.stdout == ""
    assert [path.name for path in (tmp_path / "unknown").rglob("*.jpg")] == ["zebra.jpg"]


@pytest.mark.parametrize(
    ("name", "sentence"), [("x.xlsx", ".parquet"), ("x", ".parquet"), ("no/x.csv", "Make it first")]
)
def test_where_it_cannot_be_written_is_said_before(tmp_path: Path, name: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence), open_writer(tmp_path / name):
        pass


def test_what_was_there_stays_when_it_fails_in_the_middle(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text("old")
    with pytest.raises(RuntimeError), open_writer(tmp_path / "x.jsonl") as write:
        write({"file": "a"})
        raise RuntimeError
    assert (tmp_path / "x.jsonl").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_a_run_that_was_cut_short_goes_on_by_content(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "v.csv"
    arguments = ["score", "--classes", "dog,cat", "--out", out, "--resume", photos]
    takes = DiskFeatureCache.put

    def then_end(self: DiskFeatureCache, rows: Mapping[bytes, np.ndarray]) -> None:
        takes(self, rows)
        raise KeyboardInterrupt

    with monkeypatch.context() as cut:
        cut.setattr(DiskFeatureCache, "put", then_end)
        assert run_inside(*arguments).returncode != 0
    assert not out.exists() and (tmp_path / "v.csv.resume").is_dir()
    with monkeypatch.context() as nothing:
        nothing.setattr(Backbone, "encode_crops", lambda *_: pytest.fail("all was encoded before"))
        assert run_inside(*arguments).returncode == 1  # for the photo that is broken
    assert not (tmp_path / "v.csv.resume").exists()
    assert len(out.read_text().splitlines()) == 1 + len(list(photos.rglob("*.jpg")))
    refused = run_inside("score", "--classes", "dog,cat", "--resume", photos)
    assert refused.returncode == 2 and "--out" in refused.stderr
