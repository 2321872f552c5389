"""Folders of photos at an address: listed, labelled, read and refused as those of this machine are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import known_implementations
from PIL import Image
from support import run_inside

from lsn_core.data.labelled import load_data
from lsn_core.data.photos import load_photos, open_photos
from lsn_core.data.remote import list_remote
from lsn_core.data.sources import DataLimits
from lsn_core.errors import UserError

NAMES = ("cat/1.jpg", "cat/2.jpg", "dog/old/1.jpg")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index, name in enumerate(NAMES):
        (tmp_path / "pets" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 20), (80 * index, 0, 0)).save(tmp_path / "pets" / name)
    (tmp_path / "pets" / "notes.txt").write_text("not a photo")
    return tmp_path / "pets"


@pytest.fixture
def bucket(folder: Path) -> Iterator[MemoryFileSystem]:
    memory = fsspec.filesystem("memory")
    memory.put(str(folder), "/bucket/pets", recursive=True)
    yield memory
    memory.rm("/bucket", recursive=True)


@pytest.mark.parametrize("end", ["", "/"])
def test_a_folder_of_a_bucket_reads_like_one_of_this_machine(folder: Path, bucket: MemoryFileSystem, end: str) -> None:
    here, there = load_photos(folder), load_photos(f"memory://bucket/pets{end}")
    assert there.names == here.names == NAMES
    assert [there.read(i) for i in range(3)] == [here.read(i) for i in range(3)]
    labelled = load_data(f"memory://bucket/pets{end}")
    assert labelled.class_names == load_data(folder).class_names == ("cat", "dog")
    assert labelled.labels.tolist() == [0, 0, 1]


def test_photos_are_named_by_the_address_each_is_found_at(bucket: MemoryFileSystem) -> None:
    photos = open_photos([Path("memory://bucket/pets/cat"), "memory://bucket/pets/dog/old/1.jpg"])
    addresses = [f"memory://bucket/pets/{name}" for name in NAMES]
    assert list(photos.names) == addresses
    assert [photos.read(i) for i in range(3)] == [bucket.cat_file(name) for name in addresses]


def test_what_is_too_large_or_too_many_or_gone_is_said(folder: Path, bucket: MemoryFileSystem) -> None:
    with pytest.raises(UserError, match="more than 2 entries"):
        load_photos("memory://bucket/pets", DataLimits(max_entries=2))
    photos = load_photos("memory://bucket/pets", DataLimits(max_image_bytes=100))
    with pytest.raises(UserError, match=r"cat/1\.jpg: the file is larger than the limit"):
        photos.read(0)
    bucket.rm("/bucket/pets/cat/1.jpg")
    with pytest.raises(
        UserError, match=r"memory://bucket/pets/cat/1\.jpg: the file cannot be read \(FileNotFoundError"
    ):
        photos.read(0)


@pytest.mark.parametrize("address", ["s3://bucket/photos", "hf://datasets/someone/photos"])
def test_a_package_that_is_not_installed_is_named(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(protocol: str) -> Any:
        raise ImportError(known_implementations[protocol]["err"])

    monkeypatch.setattr("fsspec.core.get_filesystem_class", missing)
    protocol = address.partition("://")[0]
    with pytest.raises(
        UserError, match=rf"{address}: addresses that begin with {protocol}:// need a package .*[Ii]nstall"
    ):
        list_remote(address)


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["score", "--out", "s3://bucket/v.csv"], "--out"),
        (["score", "--copy-unknown", "s3://bucket/unknown"], "--copy-unknown"),
        (["features", "--out", "s3://bucket/f.parquet"], "--out"),
        (["features", "--out", "f.npz", "--cache", "gs://bucket/cache"], "--cache"),
        (["train", "--out", "s3://bucket/d.safetensors"], "--out"),
    ],
)
def test_nothing_is_written_to_addresses(arguments: list[str], option: str, folder: Path) -> None:
    done = run_inside(*arguments, folder)
    assert done.returncode == 2 and f"{option} {arguments[-1]}: nothing is written to addresses" in done.stderr
