"""Photos that come without classes: what cannot be read is told, one by one, and none is lost."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import run_inside

from lsn_core.data.labelled import load_data
from lsn_core.data.photos import load_photos, open_photos
from lsn_core.errors import UserError


@pytest.fixture
def folder(examples: Path, tmp_path: Path) -> Path:
    for name in ("cat/1.jpg", "dog/1.jpg", "private/1.jpg"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(examples / "cat.jpg", tmp_path / "photos" / name)
    return tmp_path / "photos"


@pytest.fixture
def closed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One of the folders cannot be listed; told so to whoever runs the tests, root included."""
    scan: Callable[..., Any] = os.scandir

    def refusing(path: Any = ".") -> Any:
        if os.fspath(path) == str(folder / "private"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)
    return folder / "private"


def test_a_folder_that_cannot_be_read_is_an_error_and_no_silence(folder: Path, closed: Path) -> None:
    photos = load_photos(folder)
    assert photos.names == ("cat/1.jpg", "dog/1.jpg", "private")
    with pytest.raises(UserError, match=r"private: the folder cannot be read \(Permission denied\)"):
        photos.read(2)
    done = run_inside("score", "--classes", "dog,cat", folder)
    assert done.returncode == 1 and done.stdout.count("\n") == 3 and f"ERROR {closed}: the folder" in done.stdout
    with pytest.raises(UserError, match="private: the folder cannot be read"):
        load_photos(closed)


def test_in_training_it_is_said(folder: Path, closed: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UserError, match="no images in the class folders private"):
        load_data(folder)
    assert f"{closed}: the folder cannot be read" in caplog.text


@pytest.mark.parametrize("ending", ["zip", "parquet"])
def test_what_only_its_name_makes_a_set_is_said_to_be_none(ending: str, tmp_path: Path, examples: Path) -> None:
    path = tmp_path / f"photos.{ending}"
    path.write_bytes(b"")
    with pytest.raises(UserError, match=f"photos.{ending}: the file is empty"):
        open_photos([path])
    path.write_bytes(b"hello")
    with pytest.raises(UserError, match=f"photos.{ending}: this is no (zip archive|Parquet file), though its name"):
        open_photos([path])
    shutil.copy(examples / "cat.jpg", path)
    assert open_photos([path]).read(0) == (examples / "cat.jpg").read_bytes()


def test_a_zip_that_unpacks_itself_is_read(tmp_path: Path, examples: Path) -> None:
    with zipfile.ZipFile(tmp_path / "plain.zip", "w") as archive:
        archive.write(examples / "cat.jpg", "cat.jpg")
    (tmp_path / "self.zip").write_bytes(b"#!/bin/sh\nexit\n" + (tmp_path / "plain.zip").read_bytes())
    assert open_photos([tmp_path / "self.zip"]).read(0) == (examples / "cat.jpg").read_bytes()


def test_an_empty_photo_is_told_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(UserError) as told:
        open_photos([tmp_path / "empty.jpg"]).read(0)
    assert str(told.value) == f"{tmp_path}/empty.jpg: the file is empty. Copy or download it again."


def test_rows_of_one_file_name_are_told_apart(tmp_path: Path, examples: Path) -> None:
    photo = (examples / "cat.jpg").read_bytes()
    rows = [{"bytes": photo, "path": path} for path in ("1.jpg", "2.jpg", "1.jpg", "1")]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({"image": pa.array(rows, kind)}), tmp_path / "x.parquet")
    assert load_photos(tmp_path / "x.parquet").names == ("1 (row 0).jpg", "2.jpg", "1 (row 2).jpg", "1")


def test_the_column_of_images_can_be_named(tmp_path: Path, examples: Path) -> None:
    photo = (examples / "cat.jpg").read_bytes()
    pq.write_table(pa.table({"front": [photo] * 2, "back": [b"none"] * 2}), tmp_path / "x.parquet")
    done = run_inside("score", "--classes", "dog,cat", tmp_path / "x.parquet")
    assert done.returncode == 2 and "--image-column" in done.stderr and "label" not in done.stderr
    for command in (("score", "--classes", "dog,cat"), ("features", "--out", tmp_path / "f.npz")):
        done = run_inside(*command, "--image-column", "front", tmp_path / "x.parquet")
        assert done.returncode == 0, done.stderr


def test_addresses_of_this_machine_keep_their_first_slash(folder: Path) -> None:
    address = folder.as_uri()
    photos = open_photos([f"{address}/cat", Path(f"{address}/dog/1.jpg")])
    assert photos.names == (f"{address}/cat/1.jpg", f"{address}/dog/1.jpg")
    assert photos.read(0) == photos.read(1)
