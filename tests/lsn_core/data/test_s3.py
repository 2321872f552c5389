"""Photos in a bucket, read over HTTP from a server that speaks S3."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support import REPO, run_inside
from support_s3 import Bucket, s3_bucket

from lsn_core.data.labelled import load_data
from lsn_core.data.photos import load_photos, open_photos
from lsn_core.errors import UserError

CLASSES = ("--classes", "dog,cat,elephant")
NAMES = (
    "1.jpg",
    "a b/c + d.jpg",
    "deep/er/and/deeper/still/5.png",
    "half/100%.jpg",
    "half/%2F.jpg",
    "marks/#1 [x] & y=z; 'q'.jpg",
    "straße/größe 日本.jpg",
)


def photo(number: int, kind: str = "JPEG") -> bytes:
    """A small picture, as a file."""
    noise = np.random.default_rng(number).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with s3_bucket() as bucket:
        yield bucket


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, bucket: Bucket) -> Path:
    """Photos with names that an address could be confused by, and what is none; here and as s3://bucket/photos."""
    folder = tmp_path_factory.mktemp("photos")
    for number, name in enumerate(NAMES):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photo(number))
    (folder / "half" / "notes.txt").write_text("no photo")
    (folder / "half" / "empty.jpg").touch()
    bucket.put_folder(folder, "photos")
    bucket.put("photos/", b"")  # what consoles make to show a folder
    bucket.put("photos/half/", b"")
    bucket.put("photos-of-others/1.jpg", photo(99))
    return folder


@pytest.mark.parametrize("end", ["", "/"])
def test_a_folder_of_a_bucket_is_that_of_this_machine(folder: Path, end: str) -> None:
    here, there = load_photos(folder), load_photos(f"s3://bucket/photos{end}")
    assert there.names == here.names and set(there.names) == {*NAMES, "half/empty.jpg"}
    assert [there.read(i) for i in range(len(there))] == [here.read(i) for i in range(len(here))]


@pytest.mark.parametrize("name", NAMES)
def test_each_photo_has_an_address(folder: Path, name: str) -> None:
    photos = open_photos([f"s3://bucket/photos/{name}"])
    assert photos.names == (f"s3://bucket/photos/{name}",)
    assert photos.read(0) == (folder / name).read_bytes()
