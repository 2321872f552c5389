"""Tests of labelled image sets: layouts that are read or explained, and draws that can be repeated."""

import io
import json
import logging
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lsn_core.data.labelled import LabelledImages, load_data
from lsn_core.data.sampling import few_shot, split
from lsn_core.data.sources import DataLimits
from lsn_core.errors import UserError

TREE = {"sea_lion/b.jpg": b"1", "sea_lion/a.PNG": b"22", "Cat/deep/c.webp": b"333", "dog/d.tif": b"4444"}
CLUTTER = {
    ".DS_Store": b"x",
    "dog/Thumbs.db": b"x",
    "__MACOSX/dog/._d.jpg": b"x",
    ".git/1.png": b"x",
    "dog/.x.png": b"x",
}


def folder(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def archive(root: Path, files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    root.mkdir(exist_ok=True)
    with zipfile.ZipFile(root / "set.zip", "w", compression) as file:
        for name, data in files.items():
            file.writestr(name, data)
    return root / "set.zip"


def parquet(path: Path, images: list, labels: list, features: object = None, **columns: list) -> Path:
    table = pa.table({"image": images, "label": labels, **columns})
    if features is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path, row_group_size=3)
    return path


def contents(data: LabelledImages) -> list[tuple[str, str, bytes]]:
    return [(data.names[i], data.class_names[data.labels[i]], data.read(i)) for i in range(len(data))]


@pytest.mark.parametrize("make", [folder, archive])
@pytest.mark.parametrize("wrapper", ["", "my photos/"])
def test_class_folders_and_zips_read_alike(make: object, wrapper: str, tmp_path: Path) -> None:
    files = {wrapper + name: data for name, data in (TREE | CLUTTER | {"readme.txt": b"x", "dog/n.txt": b"x"}).items()}
    data = load_data(make(tmp_path / "set", files))
    assert data.class_names == ("Cat", "dog", "sea lion")
    assert data.labels.dtype == np.int64
    assert contents(data) == [
        ("Cat/deep/c.webp", "Cat", b"333"),
        ("dog/d.tif", "dog", b"4444"),
        ("sea_lion/a.PNG", "sea lion", b"22"),
        ("sea_lion/b.jpg", "sea lion", b"1"),
    ]


@pytest.mark.parametrize("make", [folder, archive])
@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (TREE | {"loose.jpg": b"x"}, "1 images are in no class folder, such as loose.jpg.*cat/1.jpg"),
        ({"a.jpg": b"x", "b.jpg": b"x"}, "2 images are in no class folder"),
        (TREE | {"bird/notes.txt": b"x"}, "no images in the class folders bird"),
        (TREE | {"SEA lion/x.jpg": b"x"}, "'SEA lion' and 'sea_lion' have the same name"),
        (TREE | {"_/x.jpg": b"x"}, "a class has no name"),
        ({"notes.txt": b"x"}, "no image files"),
        ({"train/cat/1.jpg": b"x", "test/cat/1.jpg": b"x"}, "splits test, train"),
    ],
)
def test_layouts_that_cannot_be_meant_are_explained(make: object, files: dict, reason: str, tmp_path: Path) -> None:
    path = make(tmp_path / "set", files)
    with pytest.raises(UserError, match=reason) as caught:
        load_data(path)
    assert str(path) in str(caught.value)


def test_empty_class_folders_are_named(tmp_path: Path) -> None:
    (folder(tmp_path / "a", TREE) / "horse").mkdir()
    with pytest.raises(UserError, match="class folders horse"):
        load_data(tmp_path / "a")
    with pytest.raises(UserError, match="class folders horse"):
        load_data(archive(tmp_path / "z", TREE | {"horse/": b""}))
    (tmp_path / "nothing").mkdir()
    with pytest.raises(UserError, match="no image files"):
        load_data(tmp_path / "nothing")


def test_linked_class_folders_are_followed_once(tmp_path: Path) -> None:
    folder(tmp_path / "store", {"n01/1.jpg": b"x"})
    folder(tmp_path / "set", {"dog/1.jpg": b"y"})
    (tmp_path / "set" / "cat").symlink_to(tmp_path / "store" / "n01")
    (tmp_path / "set" / "dog" / "up").symlink_to(tmp_path / "set")
    assert contents(load_data(tmp_path / "set")) == [("cat/1.jpg", "cat", b"x"), ("dog/1.jpg", "dog", b"y")]


def test_paths_and_files_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("image,label\n")
    (tmp_path / "empty").touch()
    (tmp_path / "a.parquet").write_bytes(b"PAR1" + b"\xff" * 100 + b"PAR1")
    (tmp_path / "a.zip").write_bytes(b"PK\3\4" + b"\xff" * 100)
    for name, reason in [
        ("none", "no such file or folder"),
        ("a.csv", "neither a folder"),
        ("empty", "the file is empty"),
        ("a.parquet", "Parquet file is damaged"),
        ("a.zip", "zip archive is damaged"),
        ("a\0b", r"cannot be read|no such file"),
    ]:
        with pytest.raises(UserError, match=reason):
            load_data(tmp_path / name)


def test_images_are_read_only_when_asked_for(tmp_path: Path) -> None:
    root = folder(tmp_path / "set", TREE)
    data = load_data(root)
    (root / "dog" / "d.tif").write_bytes(b"changed")
    (root / "Cat" / "deep" / "c.webp").unlink()
    assert data.read(1) == b"changed"
    with pytest.raises(UserError, match=r"^Cat/deep/c\.webp: "):
        data.read(0)
    for index in (-1, 4):
        with pytest.raises(IndexError):
            data.read(index)


def test_parquet_with_declared_class_names(tmp_path: Path) -> None:
    images = [
        {"bytes": bytes([i]), "path": path} for i, path in enumerate(["a/0.png", "/home/me/1.png", None, "../3.png"])
    ]
    features = {"label": {"names": ["tabby_cat", "dog", "emu"], "_type": "ClassLabel"}}
    data = load_data(parquet(tmp_path / "a.parquet", images, [2, 0, 0, 2], features, label_name=["x", "y", "y", "x"]))
    assert data.class_names == ("tabby cat", "dog", "emu")
    assert contents(data) == [
        ("a/0.png", "emu", b"\0"),
        ("1.png", "tabby cat", b"\1"),
        ("a.parquet row 2", "tabby cat", b"\2"),
        ("3.png", "emu", b"\3"),
    ]


def test_parquet_with_other_kinds_of_labels(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, images = tmp_path / "a.parquet", [bytes([i]) for i in range(7)]
    for labels in (list("bacabca"), pa.array(list("bacabca")).dictionary_encode()):
        data = load_data(parquet(path, images, labels))
        assert [(name, read) for _, name, read in contents(data)] == list(zip("bacabca", images, strict=True))
    named = load_data(parquet(path, images, [9, 4, 9, 4, 4, 4, 7], label_name=["i", "d", "i", "d", "d", "d", "g"]))
    assert named.class_names == ("d", "g", "i")
    assert named.labels.tolist() == [2, 0, 2, 0, 0, 0, 1]
    caplog.clear()
    assert load_data(parquet(path, images[:2], [5, 3])).class_names == ("class 3", "class 5")
    assert "no names" in caplog.text


def test_parquet_that_cannot_be_used(tmp_path: Path) -> None:
    path, features = tmp_path / "a.parquet", {"label": {"names": ["a", "b"]}}
    for images, labels, options, reason in [
        ([b"x"], [2], {"features": features}, "row 0 has label 2, but there are 2 classes"),
        ([b"x", b"y"], [0, -1], {"features": features}, "row 1 has label -1"),
        ([b"x"], [0], {"features": {"label": {"names": ["a_b", "A b"]}}}, "have the same name"),
        ([b"x", b"y"], [0, None], {}, "row 1 has no label"),
        ([b"x"], [0.5], {}, "whole numbers or text"),
        ([b"x"], pa.array([2**63], pa.uint64()), {}, "cannot be read"),
        (["x"], [0], {}, "bytes of image files"),
        ([{"path": "a.png"}], [0], {}, "bytes of image files"),
        ([b"x", b"y"], [0, 0], {"label_name": ["a", "b"]}, "row 1 has label 0 and name 'b'"),
        (pa.array([], pa.binary()), pa.array([], pa.int64()), {}, "no rows"),
    ]:
        with pytest.raises(UserError, match=reason):
            load_data(parquet(path, images, labels, **options))
    for columns, reason in [
        (
            {"a": [b"x"], "b": [b"y"], "label": [0]},
            "`image` and `label` are needed; it has a, b, label; a, b may be it",
        ),
        ({"image": [b"x"], "score": [1]}, "which column holds the labels.*it has image, score.*--label-column"),
    ]:
        pq.write_table(pa.table(columns), path)
        with pytest.raises(UserError, match=reason):
            load_data(path)
    data = load_data(parquet(path, [b"x", None, b"z" * 9], [0, 0, 0]), DataLimits(max_image_bytes=8))
    for index, reason in ((1, "row 1 of a.parquet has no image bytes"), (2, "larger than the limit")):
        with pytest.raises(UserError, match=reason):
            data.read(index)


def test_subset_and_select_classes(tmp_path: Path) -> None:
    data = load_data(folder(tmp_path / "set", TREE))
    assert contents(data.subset([3, 1])) == [contents(data)[3], contents(data)[1]]
    assert contents(data.subset([3, 1, 0]).subset([2])) == [contents(data)[0]]
    for choice in (["SEA_lion", "cat"], [2, 0]):
        chosen = data.select_classes(choice)
        assert chosen.class_names == ("sea lion", "Cat")
        assert contents(chosen) == [contents(data)[i] for i in (0, 2, 3)]
    for choice in (["cow"], [3], [-1], ["cat", 0], []):
        with pytest.raises(UserError, match="class"):
            data.select_classes(choice)
    with pytest.raises(IndexError):
        data.subset([-1])


def many(tmp_path: Path, sizes: dict[str, int]) -> LabelledImages:
    labels = [name for name, size in sizes.items() for _ in range(size)]
    return load_data(parquet(tmp_path / "many.parquet", [b"x"] * len(labels), labels))


def test_few_shot_draws(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = many(tmp_path, {"ant": 40, "bee": 40, "cow": 3})
    drawn = few_shot(data, 8, seed=1)
    assert Counter(data.labels[drawn].tolist()) == {0: 8, 1: 8, 2: 3}
    assert "cow (3)" in caplog.text and "ant" not in caplog.text
    assert len(set(drawn.tolist())) == 19
    assert drawn.tolist() == few_shot(data, 8, seed=1).tolist() != few_shot(data, 8, seed=2).tolist()
    assert set(drawn.tolist()) < set(few_shot(data, 16, seed=1).tolist())
    assert few_shot(data, None, seed=1).tolist() == list(range(83))
    rest = few_shot(data, None, seed=1, reserve=drawn)
    assert sorted([*rest, *drawn]) == list(range(83))
    with pytest.raises(UserError, match="at least 1"):
        few_shot(data, 0, seed=1)


def test_a_class_draw_does_not_depend_on_the_other_classes(tmp_path: Path) -> None:
    data = many(tmp_path, {"ant": 40, "bee": 40, "cow": 40})
    alone = data.select_classes(["cow"])
    assert [80 + i for i in few_shot(alone, 5, seed=3)] == [i for i in few_shot(data, 5, seed=3) if i >= 80]
    draws = [set((few_shot(data, 20, seed=3).reshape(3, 20)[label] - 40 * label).tolist()) for label in range(3)]
    assert draws[0] != draws[1] != draws[2]


def test_split_is_stratified() -> None:
    labels = np.array([0] * 50 + [1] * 30 + [2] * 20)
    train, held = split(labels, 0.2, seed=0)
    assert sorted([*train, *held]) == list(range(100))
    assert Counter(labels[held].tolist()) == {0: 10, 1: 6, 2: 4}
    assert split(labels, 0.2, seed=0)[1].tolist() == held.tolist() != split(labels, 0.2, seed=1)[1].tolist()


@pytest.mark.parametrize(
    ("per_class", "share", "total"), [(4, 0.1, 4), (1, 0.5, 0), (2, 0.9, 10), (8, 0.0, 0), (3, 0.5, 15)]
)
def test_split_keeps_its_total_with_few_shots(per_class: int, share: float, total: int) -> None:
    labels = np.repeat(np.arange(10), per_class)
    train, held = split(labels, share, seed=5)
    assert len(held) == total
    assert set(labels[train].tolist()) == set(range(10))
    given = np.bincount(labels[held], minlength=10)
    assert given.max() - given.min() <= 1


def test_split_refuses_shares_outside_the_range() -> None:
    for share in (-0.1, 1.0, float("nan")):
        with pytest.raises(UserError, match="share"):
            split(np.zeros(4, int), share, seed=0)


def test_real_sets_open(shared_data: Path) -> None:
    data = load_data(shared_data / "imagenette" / "val.parquet")
    assert len(data) == 600
    assert data.class_names[0] == "tench" and data.class_names[9] == "parachute"
    assert np.bincount(data.labels).sum() == 600
    assert Image.open(io.BytesIO(data.read(599))).size == (224, 224)
    assert len(load_data(shared_data / "imagenet1k" / "test.parquet").class_names) == 1000


def test_no_warning_for_a_clean_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        load_data(folder(tmp_path / "clean", TREE | CLUTTER))
        assert not caplog.records
        load_data(folder(tmp_path / "mixed", TREE | {"dog/n.txt": b"x", "dog/phone.dng": b"x"}))
    assert "2 other files left out, such as dog/phone.dng (a camera's raw file" in caplog.text
