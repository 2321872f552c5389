"""Parquet files are read in any order; what unpacks to too much is refused by its page headers or read in parts."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lsn_core.data.labelled import load_data
from lsn_core.data.parquet_pages import Chunk, PageError, chunk_size, read_chunks
from lsn_core.data.sources import DataError, DataLimits

MIB = 2**20
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def write(path: Path, images: object, labels: object, metadata: object = None, **options: object) -> Path:
    table = pa.table({"image": images, "label": labels, **options.pop("columns", {})})
    if metadata is not None:
        table = table.replace_schema_metadata({"huggingface": metadata})
    pq.write_table(table, path, **options)
    return path


def shared(values: list[object], count: int, kind: pa.DataType) -> pa.Array:
    """So many rows that have one value, which is stored once."""
    return pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array(values, kind))


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("compression", ["none", "snappy", "zstd", "gzip"])
@pytest.mark.parametrize("dictionary", [False, True])
def test_page_headers_add_up_to_the_footers_sizes(
    version: str, compression: str, dictionary: bool, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    images = [{"bytes": rng.bytes(int(rng.integers(1, 9000))), "path": f"{i % 7}.jpg"} for i in range(500)]
    path = write(
        tmp_path / "a.parquet",
        pa.array([*images, None], STRUCT),
        [*range(500), 3],
        row_group_size=200,
        compression=compression,
        use_dictionary=dictionary,
        data_page_version=version,
        data_page_size=20_000,
        write_batch_size=10,
        write_statistics=True,
    )
    footer = pq.ParquetFile(path).metadata
    with open(path, "rb") as file:
        chunks = read_chunks(file)
        for group in range(footer.num_row_groups):
            for column in range(footer.num_columns):
                chunk, own = footer.row_group(group).column(column), chunks[group][column]
                first = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
                assert own == Chunk(chunk.num_values, first, chunk.total_compressed_size)
                size = chunk_size(file, own, 1000)
                # The footer counts the headers of the pages, too.
                assert 0.9 * chunk.total_uncompressed_size - 200 < size.unpacked < chunk.total_uncompressed_size
                assert (size.dictionary > 0) == chunk.has_dictionary_page
        with pytest.raises(PageError, match="too many pages"):
            chunk_size(file, chunks[0][0], 1)


def varint(value: int) -> bytes:
    """A number as Thrift's compact protocol writes it: zigzag, seven bits a byte."""
    value, out = value << 1 if value >= 0 else (-value << 1) - 1, b""
    while value > 0x7F:
        value, out = value >> 7, out + bytes([value & 0x7F | 0x80])
    return out + bytes([value])


def page(unpacked: int, packed: int, values: int, kind: int = 5) -> bytes:
    """A page header: 1 type, 2 and 3 the sizes, then a struct whose field 1 is the number of values."""
    sizes = b"\x15\0\x15" + varint(unpacked) + b"\x15" + varint(packed)
    return sizes + bytes([(kind - 3) << 4 | 0x0C]) + b"\x15" + varint(values) + b"\0\0"


@pytest.mark.parametrize(
    ("data", "values", "reason"),
    [
        (page(2**30, 5, 9) + b"abcde", 9, None),
        (page(7, 2**30, 9) + page(7, 7, 1), 10, "9 values in its pages"),
        (page(7, 7, 9) + b"abcdefg", 8, "9 values"),
        (page(-7, 7, 9), 9, "no size"),
        (page(7, -7, 9), 9, "no size"),
        (page(7, 7, -9), 9, "no number of values"),
        (page(100, 0, 101, kind=7) + page(7, 7, 9), 9, "more values than bytes"),
        (page(7, 7, 9)[:-3], 9, "cut off"),
        (b"\x1c" * 100, 9, "nested too deeply"),
        (b"\x19\xf5" + varint(2**40), 9, "too long"),
        (b"\x15" + b"\xff" * 20, 9, "too long"),
        (b"\x18" + varint(2**40), 9, "cut off"),
        (b"\x1d\0", 9, "damaged"),
    ],
)
def test_page_headers_of_any_kind_are_read_or_refused(data: bytes, values: int, reason: str | None) -> None:
    chunk = Chunk(values, 0, len(data))
    if reason is None:
        assert chunk_size(io.BytesIO(data), chunk, 9).unpacked == 2**30  # whatever the footer says
        return
    with pytest.raises(PageError, match=reason):
        chunk_size(io.BytesIO(data), chunk, 9)


@pytest.mark.parametrize("rows", [1, 37, 1000])
def test_images_are_read_in_any_order(rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lsn_core.data.parquet._BATCH_BYTES", 100_000)
    monkeypatch.setattr("lsn_core.data.parquet._KEPT_BYTES", 300_000)
    rng = np.random.default_rng(rows)
    blobs = [rng.bytes(int(rng.integers(1, 30_000))) for _ in range(80)]
    blobs[50:60] = [blobs[50]] * 10
    for images in (blobs, [{"bytes": blob, "path": f"{i}.jpg"} for i, blob in enumerate(blobs)]):
        data = load_data(write(tmp_path / "a.parquet", images, ["cat"] * 80, row_group_size=rows))
        for order in (range(80), range(79, -1, -1), rng.permutation(80).tolist()):
            assert all(data.read(index) == blobs[index] for index in order)


# Small files, each of which would take from half a gigabyte to many if it were read at once.
BOMBS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "one image for many rows": (
        lambda path: write(path, shared([b"x" * 600_000], 1000, pa.binary()), ["cat"] * 1000, compression="zstd"),
        "read",
    ),
    "one image with a name for many rows": (
        lambda path: write(path, pa.array([{"bytes": b"x" * 600_000, "path": "a.jpg"}] * 900, STRUCT), ["cat"] * 900),
        "read",
    ),
    "images of zeros": (
        lambda path: write(
            path,
            pa.array([bytes(30 * MIB) + bytes([i]) for i in range(16)], pa.binary()),
            ["cat"] * 16,
            compression="zstd",
            use_dictionary=False,
        ),
        "times its size",
    ),
    "one long name for many images": (
        lambda path: write(
            path, pa.array([{"bytes": b"x", "path": "y" * 900_000}] * 330, STRUCT), ["cat"] * 330, compression="zstd"
        ),
        "names of its images are too long",
    ),
    "one long label for many rows": (
        lambda path: write(path, [b"x"] * 100_000, shared(["cat" * 300_000], 100_000, pa.string()), compression="zstd"),
        "name of 900,000 letters",
    ),
    "one long class name for many rows": (
        lambda path: write(
            path,
            [b"x"] * 100_000,
            [7] * 100_000,
            columns={"label_name": shared(["cat" * 300_000], 100_000, pa.string())},
            compression="zstd",
        ),
        "name of 900,000 letters",
    ),
    "other columns": (
        lambda path: write(
            path,
            [b"x"] * 1000,
            ["cat"] * 1000,
            columns={"caption": shared(["z" * MIB], 1000, pa.string())},
            compression="zstd",
        ),
        "read",
    ),
}


@pytest.mark.parametrize("case", BOMBS)
def test_bombs_take_little_memory_and_time(case: str, tmp_path: Path) -> None:
    make, outcome = BOMBS[case]
    path = make(tmp_path / "bomb.parquet")
    assert path.stat().st_size < MIB
    script = (
        "import resource, sys\nfrom lsn_core.data.labelled import load_data\n"
        "from lsn_core.errors import UserError\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n    data = load_data(sys.argv[1])\n"
        "    print('read', sum(len(data.read(i)) for i in range(len(data))))\n"
        "except UserError as error:\n    print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, cwd=Path(__file__).parents[3]
    )
    assert done.returncode == 0, done.stderr
    told, kilobytes = done.stdout.splitlines()
    assert outcome in told
    assert int(kilobytes) // (1024 if sys.platform == "darwin" else 1) < 400 * 1024
    assert time.monotonic() - begun < 30


def test_what_a_footer_says_of_other_things_is_bounded(tmp_path: Path) -> None:
    path, one = tmp_path / "a.parquet", [b"x"]
    names = json.dumps({"info": {"features": {"label": {"names": [f"class {i}" for i in range(100_001)]}}}})
    with pytest.raises(DataError, match="declares 100,001 classes"):
        load_data(write(path, one, [0], names))
    deep = '{"info": ' + "[" * 100_000 + "]" * 100_000 + "}"
    assert load_data(write(path, one, [0], deep)).class_names == ("class 0",)
    digits = '{"info": {"features": {"label": {"names": [' + "9" * 5000 + "]}}}}"
    assert load_data(write(path, one, [0], digits)).class_names == ("class 0",)
    many = {f"c{i}": [0] for i in range(3000)}
    assert len(load_data(write(path, one, [0], columns=many))) == 1
    with pytest.raises(DataError, match="unpacks to more than"):
        load_data(write(path, [b"x" * 5000] * 9, [0] * 9, use_dictionary=False), DataLimits(max_total_bytes=40_000))


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"label_name": [["a", "b"]]}, "must hold text"),
        ({"label_name": [7]}, "must hold text"),
        ({"image": [{"bytes": b"x", "path": ["a"] * 9}]}, "must hold text"),
        ({"image": [[b"x"] * 9]}, "must hold the bytes"),
        ({"label": [["a"]]}, "whole numbers or text"),
        ({"label": [{"name": "a"}]}, "whole numbers or text"),
    ],
)
def test_columns_of_other_shapes_are_refused(columns: dict[str, list[object]], reason: str, tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [b"x"], "label": [0]} | columns), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=reason):
        load_data(tmp_path / "a.parquet")


def test_statistics_of_another_kind_of_column_do_not_end_the_process(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [b"x"] * 3, ["cat", "dog", "hen"])
    text, truth = b"\x15\x0c\x25\x02\x18\x05label", b"\x15\x00\x25\x02\x18\x05label"  # type, repetition and name
    data = path.read_bytes()
    assert data.count(text) == 1
    path.write_bytes(data.replace(text, truth))  # a column of truth values with the statistics of texts
    script = (
        "import sys\nfrom lsn_core.data.labelled import load_data\nfrom lsn_core.errors import UserError\n"
        "try:\n    load_data(sys.argv[1])\nexcept UserError as error:\n    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, cwd=Path(__file__).parents[3]
    )
    assert done.returncode == 0 and "a.parquet" in done.stdout, done.stderr


def test_footers_that_are_cut_off_or_describe_nothing_are_refused() -> None:
    def file(footer: bytes, length: int | None = None) -> io.BytesIO:
        return io.BytesIO(
            b"PAR1" + footer + (len(footer) if length is None else length).to_bytes(4, "little") + b"PAR1"
        )

    column = b"\x26\0\x1c\x56" + varint(7) + b"\x26" + varint(50) + b"\x26" + varint(4) + b"\0\0"
    group = b"\x19\x1c" + column + b"\0"
    assert read_chunks(file(b"\x49\x1c" + group + b"\0")) == [[Chunk(7, 4, 50)]]
    for footer, length, reason in (
        (b"\0", 999, "longer than the file"),
        (b"\x49\x1c", None, "cut off"),
        (b"\x49\x1c\x19\x1c\0\0\0", None, "not described"),
        (b"\x49\xfc" + varint(10**9), None, "too long"),
    ):
        with pytest.raises(PageError, match=reason):
            read_chunks(file(footer, length))
    assert read_chunks(file(b"\0")) == []


def test_many_row_groups_cost_no_more_for_each_row(tmp_path: Path) -> None:
    def seconds(rows: int) -> float:
        path = tmp_path / f"{rows}.parquet"
        images = pa.array([b"%d" % row for row in range(rows)], pa.binary())
        pq.write_table(pa.table({"image": images, "label": ["a", "b"] * (rows // 2)}), path, row_group_size=10)
        data = load_data(path)
        begun = time.process_time()
        assert [data.read(row) for row in range(rows)] == images.to_pylist()
        return time.process_time() - begun

    # 8 times, of some milliseconds that other work makes uneven; 64 times where it is quadratic.
    assert min(seconds(8000), seconds(8000)) < 30 * min(seconds(1000), seconds(1000))
