"""Tests that hostile and damaged archives are refused with a UserError, within bounded memory."""

import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lsn_core.data.images import open_image
from lsn_core.data.labelled import load_data
from lsn_core.data.sources import DataLimits
from lsn_core.errors import UserError

TREE = {"sea_lion/b.jpg": b"1", "Cat/deep/c.webp": b"333", "dog/d.tif": b"4444"}


def archive(root: Path, files: dict, compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(root / "set.zip", "w", compression) as file:
        for name, data in files.items():
            file.writestr(name, data)
    return root / "set.zip"


def read_all(path: Path) -> list[bytes]:
    data = load_data(path)
    return [data.read(index) for index in range(len(data))]


@pytest.mark.parametrize("name", ["/etc/1.jpg", "cat/../../1.jpg", "..\\cat\\1.jpg", "C:/cat/1.jpg", "C:\\cat\\1.jpg"])
def test_zip_names_that_point_outside_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="points outside"):
        load_data(archive(tmp_path, TREE | {name: b"x"}))


def test_zip_links_passwords_and_odd_compression_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("cat/link.jpg")
    link.external_attr = 0o120777 << 16
    with pytest.raises(UserError, match=r"cat/link\.jpg' is a link"):
        load_data(archive(tmp_path, TREE | {link: b"/etc/passwd"}))
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with pytest.raises(UserError, match="unusual compression"):
            load_data(archive(tmp_path, TREE, method))
    path = archive(tmp_path, {"cat/1.jpg": b"x"})
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(raw)
    with pytest.raises(UserError, match="encrypted"):
        load_data(path)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(archive(tmp_path, TREE), "a") as file:
        file.writestr("dog/d.tif", b"other")
    with pytest.raises(UserError, match="same name"):
        load_data(tmp_path / "set.zip")


def test_zip_sizes_are_limited_by_what_the_directory_says(tmp_path: Path) -> None:
    path = archive(tmp_path, {"cat/1.bmp": bytes(3 * 2**20), "cat/2.jpg": b"x"})
    with pytest.raises(UserError, match="more than 200 times"):
        load_data(path)
    with pytest.raises(UserError, match="unpacks to more than"):
        load_data(path, DataLimits(max_ratio=5000, max_total_bytes=2**20))
    with pytest.raises(UserError, match="more than 1 entries"):
        load_data(path, DataLimits(max_ratio=5000, max_entries=1))
    data = load_data(path, DataLimits(max_ratio=5000, max_image_bytes=2**20))
    with pytest.raises(UserError, match=r"cat/1\.bmp: .*larger than the limit of 1 MiB"):
        data.read(0)
    assert data.read(1) == b"x"
    for wrong in (0, -1, 0.5):
        with pytest.raises(UserError, match="max_ratio"):
            DataLimits(max_ratio=wrong)


@pytest.mark.parametrize("claimed", [10, 40 * 2**20])
def test_zip_directory_that_lies_about_a_size(claimed: int, tmp_path: Path) -> None:
    path = archive(tmp_path, {"cat/1.bmp": bytes(50 * 2**20)})
    raw = bytearray(path.read_bytes())
    for magic, offset in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        struct.pack_into("<I", raw, raw.index(magic) + offset, claimed)
    path.write_bytes(raw)
    data = load_data(path, DataLimits(max_ratio=5000, max_image_bytes=2**20))
    tracemalloc.start()
    with pytest.raises(UserError, match=r"cat/1\.bmp: (damaged|the file is larger)"):
        data.read(0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2**20


def test_zip_directory_with_millions_of_entries_is_not_unfolded(tmp_path: Path) -> None:
    path = archive(tmp_path, {f"cat/{'n' * 200}{i}.jpg": b"" for i in range(3000)})
    with pytest.raises(UserError, match="more than 100 entries"):
        tracemalloc.start()
        load_data(path, DataLimits(max_entries=100))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500_000  # 3000 entries take several megabytes


def test_damaged_zips_only_ever_give_user_errors(tmp_path: Path) -> None:
    valid = archive(tmp_path, {name: data * 50 for name, data in TREE.items()}).read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for trial in range(300):
        raw = bytearray(valid)
        if trial % 4 == 0:
            del raw[int(rng.integers(2, len(raw))) :]
        for place in rng.integers(0, len(raw), 4):
            raw[place] = rng.integers(0, 256)
        (tmp_path / "bad.zip").write_bytes(raw)
        try:
            read_all(tmp_path / "bad.zip")
        except UserError:
            refused += 1
    assert refused > 100


def test_damaged_parquet_files_only_ever_give_user_errors(tmp_path: Path) -> None:
    table = pa.table(
        {"image": [{"bytes": bytes([i]) * 40, "path": f"{i}.png"} for i in range(20)], "label": [0, 1] * 10}
    )
    pq.write_table(table, tmp_path / "good.parquet", row_group_size=7)
    valid = (tmp_path / "good.parquet").read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for trial in range(200):
        raw = bytearray(valid)
        if trial % 4 == 0:
            del raw[int(rng.integers(4, len(raw))) :]
        for place in rng.integers(4, len(raw), 4):
            raw[place] = rng.integers(0, 256)
        (tmp_path / "bad.parquet").write_bytes(raw)
        try:
            read_all(tmp_path / "bad.parquet")
        except UserError:
            refused += 1
    assert refused > 60


def test_parquet_sizes_are_limited(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": [bytes(2**20)] * 4, "label": [0, 1, 0, 1]}), path, use_dictionary=False)
    assert len(read_all(path)) == 4
    with pytest.raises(UserError, match="unpacks to more than"):
        load_data(path, DataLimits(max_total_bytes=2**21))
    with pytest.raises(UserError, match="more than 3 entries"):
        load_data(path, DataLimits(max_entries=3))


STEERING = "\x1b[2J\u202egpj.exe\n\x9b"


def test_names_that_would_steer_a_terminal_are_shown_with_marks(tmp_path: Path) -> None:
    marked = "\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}gpj.exe" + 2 * "\N{REPLACEMENT CHARACTER}"
    (tmp_path / "set" / "cat").mkdir(parents=True)
    (tmp_path / "set" / "cat" / f"{STEERING}.png").write_bytes(b"x")
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as file:
        file.writestr(f"cat/{STEERING}.png", b"x")
    images = [{"bytes": b"x", "path": f"cat/{STEERING}.png"}]
    pq.write_table(pa.table({"image": images, "label": ["cat"]}), tmp_path / "set.parquet")
    for name in ("set", "set.zip", "set.parquet"):
        assert load_data(tmp_path / name).names == (f"cat/{marked}.png",)
    with pytest.raises(UserError) as caught:
        open_image(b"x", name=STEERING)
    assert str(caught.value).startswith(f"{marked}: ")
