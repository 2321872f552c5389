"""Sets of several Parquet files: shards and their splits, addresses, and what the package `datasets` hands over."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lsn_core.data.labelled import LabelledImages, load_data
from lsn_core.data.parquet import ParquetSource
from lsn_core.data.photos import load_photos
from lsn_core.errors import UserError

FILES = {"train-00000-of-00002": "ab", "train-00001-of-00002": "cb", "test-00000-of-00001-9f3c": "aa"}


def write(folder: Path) -> Path:
    (folder / "data").mkdir(parents=True)
    for name, labels in FILES.items():
        images = [f"{name} {row}".encode() for row in range(len(labels))]
        pq.write_table(pa.table({"image": images, "label": list(labels)}), folder / "data" / f"{name}.parquet")
    return folder


def contents(data: LabelledImages) -> list[tuple[str, bytes]]:
    return [(data.class_names[data.labels[i]], data.read(i)) for i in range(len(data))]


def test_shards_of_one_split_are_one_set(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write(tmp_path / "set")
    with pytest.raises(UserError, match=r"splits test, train.*--split train"):
        load_data(folder)
    with caplog.at_level(logging.WARNING):
        data = load_data(folder, guess=["train"])
    assert "the split train is taken; left out: test (1 files)" in caplog.text and data.splits == ("test", "train")
    first, second, _ = FILES
    assert contents(data) == [
        (label, f"{name} {row}".encode()) for name in (first, second) for row, label in enumerate(FILES[name])
    ]
    assert len(load_data(folder, split="test")) == 2
    with pytest.raises(UserError, match="no split 'val'; there are test, train"):
        load_data(folder, split="val")
    photos = load_photos(folder)
    assert len(photos) == len(set(photos.names)) == 6 and photos.read(0) == b"test-00000-of-00001-9f3c 0"


def test_one_shard_at_a_time_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released = []
    monkeypatch.setattr(ParquetSource, "release", lambda self: released.append(self.names[0]))
    data = load_data(write(tmp_path / "set"), split="train")
    for index in range(len(data)):
        data.read(index)
    assert released == ["train-00000-of-00002.parquet row 0"]


def test_folders_of_numbered_files_are_splits_by_their_names(tmp_path: Path) -> None:
    for split in ("train", "validation"):
        (tmp_path / "default" / split).mkdir(parents=True)
        pq.write_table(pa.table({"image": [b"x"], "label": [split]}), tmp_path / "default" / split / "0000.parquet")
    assert load_data(tmp_path, split="val").class_names == ("validation",)


def test_files_may_count_their_classes_differently(tmp_path: Path) -> None:
    for number, names in enumerate((["cat", "dog"], ["dog", "emu"])):
        about = {b"huggingface": json.dumps({"info": {"features": {"label": {"names": names}}}}).encode()}
        table = pa.table({"image": [b"x", b"y"], "label": [0, 1]}).replace_schema_metadata(about)
        pq.write_table(table, tmp_path / f"part-{number}.parquet")
    assert [name for name, _ in contents(load_data(tmp_path))] == ["cat", "dog", "dog", "emu"]


def test_addresses_are_read_in_place(tmp_path: Path) -> None:
    memory, folder = fsspec.filesystem("memory"), write(tmp_path / "set")
    for path in (folder / "data").iterdir():
        memory.pipe(f"/shards/{path.name}", path.read_bytes())
    memory.pipe("/archives/photos.zip", b"PK")
    for address in ("memory://shards", Path("memory://shards")):  # a Path takes one slash away
        assert contents(load_data(address, split="train")) == contents(load_data(folder, split="train"))
    for address, reason in (
        ("memory://none", "memory://none: there are no files at this address"),
        ("memory://archives", "memory://archives: there are no photos and no Parquet files at this address"),
        ("nowhere://x", "nowhere://x: the address cannot be read"),
    ):
        with pytest.raises(UserError, match=reason):
            load_data(address)


class Dataset:
    """What `datasets.Dataset` offers of a table."""

    def __init__(self, table: pa.Table, asked: list[list[str]]) -> None:
        self.table, self.asked = table, asked

    @property
    def features(self) -> Any:
        return type("Features", (), {"arrow_schema": self.table.schema})

    @property
    def column_names(self) -> list[str]:
        return self.table.column_names

    def select_columns(self, names: list[str]) -> Dataset:
        self.asked.append(names)
        return Dataset(self.table.select(names), self.asked)

    def with_format(self, kind: str) -> Dataset:
        assert kind == "arrow"
        return self

    def __len__(self) -> int:
        return self.table.num_rows

    def __getitem__(self, rows: slice) -> pa.Table:
        return self.table[rows]


def test_data_sets_in_python_are_read_row_by_row(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"from a file")
    images = [{"bytes": b"inside", "path": None}, {"bytes": None, "path": str(tmp_path / "1.png")}]
    about = {b"huggingface": json.dumps({"info": {"features": {"fine_label": {"names": ["cat", "dog"]}}}}).encode()}
    table = pa.table({"img": images, "fine_label": [1, 0]}).replace_schema_metadata(about)
    data = load_data(Dataset(table, asked := []))
    assert contents(data) == [("dog", b"inside"), ("cat", b"from a file")]
    assert asked == [["img"], ["fine_label"]]  # images are never loaded with the labels
    both = {"train": Dataset(table, []), "test": Dataset(table[:1], [])}
    with pytest.raises(UserError, match="splits train, test"):
        load_data(both)
    assert len(load_data(both, split="test")) == len(load_data(both, guess=["test"])) == 1
