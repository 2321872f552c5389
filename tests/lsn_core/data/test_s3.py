"""Photos in a bucket, read over HTTP from a server that speaks S3."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support import run_inside
from support_s3 import Bucket, s3_bucket

from lsn_core.backbones.backbone import Backbone
from lsn_core.data.feature_stream import FeatureStream, unopened
from lsn_core.data.labelled import load_data
from lsn_core.data.photos import load_photos, open_photos
from lsn_core.data.sources import SourceLost
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
    "what? who*.jpg",
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


def test_score_and_features_are_those_of_this_machine(folder: Path, tmp_path: Path) -> None:
    lines = {}
    for where in (str(folder), "s3://bucket/photos"):
        done = run_inside("score", where, *CLASSES, "--out", tmp_path / "v.parquet")
        assert done.returncode == 1 and "uncalibrated" in done.stderr, done.stderr  # one of them is empty
        rows = pq.read_table(tmp_path / "v.parquet").to_pylist()
        lines[where] = [
            {name: str(value).replace(where, "") for name, value in row.items() if name != "error"}
            | {"bad": row["error"] is not None}
            for row in rows
        ]
    assert len(rows) == len(NAMES) + 1 and lines[str(folder)] == lines["s3://bucket/photos"]

    done = run_inside("features", "s3://bucket/photos", "--out", tmp_path / "f.npz", "--cache", tmp_path / "cache")
    assert done.returncode == 1 and "features of 8 images" in done.stdout, done.stderr
    assert list(np.load(tmp_path / "f.npz")["error_files"]) == ["s3://bucket/photos/half/empty.jpg"]


def test_labelled_photos_and_shards_are_those_of_this_machine(bucket: Bucket, examples: Path, tmp_path: Path) -> None:
    for name in ("dog", "cat", "elephant"):
        (tmp_path / "known" / name).mkdir(parents=True)
        (tmp_path / "known" / name / "1.jpg").write_bytes((examples / f"{name}.jpg").read_bytes())
    images = load_data(tmp_path / "known")
    columns = {"image": [images.read(i) for i in range(3)], "label": [images.class_names[i] for i in images.labels]}
    for number in range(2):
        pq.write_table(pa.table(columns), tmp_path / f"train-{number:05}-of-00002.parquet")
        bucket.put(
            f"shards/train-{number:05}-of-00002.parquet",
            (tmp_path / f"train-{number:05}-of-00002.parquet").read_bytes(),
        )
    bucket.put_folder(tmp_path / "known", "known")
    for address, times in (
        ("s3://bucket/known", 1),
        ("s3://bucket/shards", 2),
        ("s3://bucket/shards/train-00001-of-00002.parquet", 1),
    ):
        there = load_data(address)
        assert there.class_names == images.class_names and there.labels.tolist() == images.labels.tolist() * times
        assert [there.read(i) for i in range(len(there))] == [images.read(i) for i in range(3)] * times

    measured = [
        run_inside("evaluate", *CLASSES, "--id", known, "--ood", f"church={church}", "--json")
        for known, church in (
            (tmp_path / "known", examples / "church.jpg"),
            ("s3://bucket/known", "s3://bucket/church"),
        )
        if bucket.put("church/church.jpg", (examples / "church.jpg").read_bytes()) is None
    ]
    assert [done.returncode for done in measured] == [0, 0], measured
    assert measured[0].stdout == measured[1].stdout


def test_what_is_not_there_is_said(bucket: Bucket) -> None:
    for address, sentence in (
        ("s3://no-bucket/photos", r"FileNotFoundError.*Check that it is there"),
        ("s3://bucket/nothing", "there are no files at this address"),
    ):
        with pytest.raises(UserError, match=f"^{address}: .*{sentence}"):
            load_photos(address)


def test_without_the_rights_it_is_said_so(bucket: Bucket, folder: Path) -> None:
    photos = load_photos("s3://bucket/photos")
    with bucket.closed_to_all():
        with pytest.raises(UserError, match=r"^s3://bucket/photos: .*PermissionError.*Check the credentials"):
            load_photos("s3://bucket/photos")
        for index in range(5):  # the others are tried, too
            with pytest.raises(UserError, match=r"1\.jpg|/.*PermissionError.*Check the credentials") as caught:
                photos.read(index)
            assert not isinstance(caught.value, SourceLost)
    assert photos.read(0)


def test_a_server_that_goes_away_ends_the_run(
    folder: Path, tiny_backbone: Backbone, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with s3_bucket() as other:
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # by itself the client tries for some seconds
        other.put_folder(folder, "photos")
        large = [np.random.default_rng(number).bytes(3 * 2**20) for number in range(6)]  # more than is fetched ahead
        pq.write_table(pa.table({"image": large}), tmp_path / "a.parquet", row_group_size=1)
        other.put("shards/a.parquet", (tmp_path / "a.parquet").read_bytes())
        photos, rows = load_photos("s3://bucket/photos"), load_photos("s3://bucket/shards")
        assert photos.read(0)
        other.stop()
        started = time.monotonic()
        with pytest.raises(
            SourceLost, match=r"^s3://bucket/photos: 3 files in a row cannot be read \(EndpointConn.* again"
        ):
            list(FeatureStream(tiny_backbone).run(unopened(photos), len(photos)))
        with pytest.raises(SourceLost, match=r"^s3://bucket/shards/a\.parquet: the file cannot be read \(Endpoint"):
            rows.read(4)
        assert time.monotonic() - started < 20
