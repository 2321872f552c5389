"""Layouts and names as people have them give the right classes or one clear sentence, wherever they are given."""

from __future__ import annotations

import json
import logging
import os
import random
import re
import subprocess
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpus.layouts import PARQUET_SETS, Layout, layouts, parquet_sets, picture
from support import run_command, run_inside

from lsn_app.train.words import contents_card
from lsn_core import UserError, load_data
from lsn_core.data.images import open_image
from lsn_core.data.labelled import LabelledImages
from lsn_core.data.photos import load_photos
from lsn_core.jobs.inspection import inspect
from lsn_core.jobs.limits import JobLimits

SEED = 7
LAYOUTS = layouts(SEED)
GUESS = ("train",)
in_layouts = pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
# Names that only zips can hold are tried in zips alone.
WAYS = [(layout, kind) for layout in LAYOUTS for kind in ("folder", "zip") if kind == "zip" or not layout.raw_names]
SEVERAL_SPLITS = [
    layout for layout in LAYOUTS if layout.split is None and "guessed" in layout.name and not layout.raw_names
]


def classes_of(data: LabelledImages) -> dict[str, int]:
    counts = Counter(data.labels.tolist())
    return {name: counts[index] for index, name in enumerate(data.class_names) if counts[index]}


def written(layout: Layout, folder: Path, kind: str) -> Path:
    return layout.folder(folder / "set") if kind == "folder" else layout.zip(folder / "set.zip")


def check_sentence(error: str) -> None:
    """One paragraph that ends, without the marks of an error that nobody thought of."""
    assert error.strip().endswith((".", ")", "...")) and "\n" not in error.strip() and "Traceback" not in error
    assert len(error) < 700


@pytest.mark.parametrize(("layout", "kind"), WAYS, ids=[f"{layout.name}-{kind}" for layout, kind in WAYS])
def test_the_library_finds_the_classes_or_says_why_not(
    layout: Layout, kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(layout, tmp_path, kind)
    with caplog.at_level(logging.WARNING):
        if layout.classes is None:
            with pytest.raises(UserError, match=f"(?s){layout.says}") as caught:
                load_data(path, split=layout.split, guess=GUESS, label_column=layout.label_column)
            check_sentence(str(caught.value))
            return
        data = load_data(path, split=layout.split, guess=GUESS, label_column=layout.label_column)
    assert classes_of(data) == layout.classes
    assert re.search(layout.says, caplog.text, re.DOTALL) and all(re.search(r"[.)]$", note) for note in data.notes)
    assert len(set(data.names)) == len(data)
    for index in range(len(data)):
        if not data.names[index].endswith("HEIC"):
            open_image(data.read(index))


@pytest.mark.parametrize("layout", SEVERAL_SPLITS, ids=lambda layout: layout.name)
def test_several_splits_are_never_guessed_unless_asked_to(layout: Layout, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"it holds the splits .*, which are no classes.*--split") as caught:
        load_data(layout.folder(tmp_path / "set"))
    assert set(caught.value.splits) == {path.split("/")[0] for path in layout.files}


@in_layouts
def test_the_command_line_finds_the_same(layout: Layout, tmp_path: Path) -> None:
    path = written(layout, tmp_path, "zip")
    if layout.classes is None:
        done = run_inside("train", path, "--out", tmp_path / "x.safetensors", *layout.options)
        check_refused(done, layout.says)
        return
    done = run_inside("jobs", "submit", path, "--data", tmp_path / "jobs", "--json", *layout.options)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["classes"] == layout.classes
    assert "Traceback" not in done.stderr


def check_refused(done: subprocess.CompletedProcess[str], says: str) -> None:
    assert done.returncode == 2, done.stderr
    assert done.stdout == "" and "Traceback" not in done.stderr
    error = next(line for line in done.stderr.splitlines() if line.startswith("Error: "))
    assert re.search(says, error), error


@in_layouts
def test_the_page_finds_the_same(layout: Layout, tmp_path: Path) -> None:
    path = written(layout, tmp_path, "zip")
    if layout.classes is None or layout.label_column:  # columns are chosen on the command line
        with pytest.raises(UserError) as caught:
            inspect(path, "my.zip", JobLimits(), split=layout.split)
        check_sentence(str(caught.value))
        assert str(tmp_path) not in str(caught.value)
        return
    if len(layout.classes) < 2:
        with pytest.raises(UserError, match="at least two are needed"):
            inspect(path, "my.zip", JobLimits(), split=layout.split)
        return
    contents = inspect(path, "my.zip", JobLimits(), split=layout.split)
    assert contents.classes == layout.classes
    card = contents_card("my.zip", contents, 16, 0.2)
    assert all(note.split(";")[0] in card for note in contents.notes if "'" not in note)


@pytest.mark.parametrize(("layout", "kind"), WAYS, ids=[f"{layout.name}-{kind}" for layout, kind in WAYS])
def test_photos_of_none_of_the_classes_need_no_layout(layout: Layout, kind: str, tmp_path: Path) -> None:
    path = written(layout, tmp_path, kind)
    pictures = [
        name
        for name in layout.files
        if name.lower().endswith((".png", ".jpg", ".jpeg", ".webp", ".heic")) and "__MACOSX" not in name
    ]
    if not pictures:
        with pytest.raises(UserError) as caught:
            load_photos(path)
        check_sentence(str(caught.value))
        return
    photos = load_photos(path)
    assert len(photos) == len(pictures) + (len(layout.raw_names) if kind == "zip" else 0)
    assert sorted(photos.names)[0] == photos.names[0] and photos.read(0)


@pytest.mark.parametrize("number", range(PARQUET_SETS))
def test_parquet_as_published(number: int, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, classes, says = list(parquet_sets(SEED, tmp_path).values())[number]
    with caplog.at_level(logging.WARNING):
        if classes is None:
            with pytest.raises(UserError, match=says):
                load_data(path)
            check_refused(run_inside("train", path, "--out", tmp_path / "x.safetensors"), says)
        else:
            assert classes_of(load_data(path)) == classes
            assert says in caplog.text
    if "bytes of image files" not in says:
        assert len(load_photos(path)) >= 2


def test_columns_are_named_where_they_are_unclear(tmp_path: Path) -> None:
    images = [picture(random.Random(SEED))] * 2
    pq.write_table(pa.table({"a": images, "b": images, "kind": ["x", "y"]}), tmp_path / "a.parquet")
    out = ["--out", tmp_path / "x.safetensors"]
    check_refused(run_inside("train", tmp_path / "a.parquet", *out), "--image-column")
    check_refused(run_inside("train", tmp_path / "a.parquet", "--image-column", "a", *out), "--label-column")
    check_refused(run_inside("train", tmp_path / "a.parquet", "--image-column", "z", *out), "no column 'z'")
    data = load_data(tmp_path / "a.parquet", image_column="b", label_column="kind")
    assert classes_of(data) == {"x": 1, "y": 1}


@pytest.mark.parametrize("other_seed", [1, 2])
def test_other_seeds_are_right_too(other_seed: int, tmp_path: Path) -> None:
    for number, layout in enumerate(layouts(other_seed)):
        path = layout.zip(tmp_path / f"{number}.zip")
        found: Mapping[str, int] | None = None
        try:
            found = classes_of(load_data(path, split=layout.split, guess=GUESS, label_column=layout.label_column))
        except UserError as error:
            check_sentence(str(error))
        assert found == layout.classes, layout.name


# -- photos, as `score`, `evaluate` and `heatmap` take them -----------------------------------------------------------


@pytest.fixture
def photos(examples: Path, tmp_path: Path) -> dict[str, bytes]:
    return {f"{name}.jpg": (examples / f"{name}.jpg").read_bytes() for name in ("dog", "cat", "church")}


def as_set(files: Mapping[str, bytes]) -> Layout:
    return Layout("photos", files, None)


def test_score_takes_folders_zips_and_parquet_and_names_what_is_inside(
    photos: dict[str, bytes], tmp_path: Path
) -> None:
    files = {"a/1.jpg": photos["dog.jpg"], "b/1.jpg": photos["cat.jpg"], "b/odd\nname.jpg": photos["church.jpg"]}
    folder, packed = as_set(files).folder(tmp_path / "set"), as_set(files).zip(tmp_path / "set.zip")
    pq.write_table(pa.table({"image": [*files.values()]}), tmp_path / "set.parquet")
    done = run_inside("score", folder, packed, tmp_path / "set.parquet", "--classes", "dog,cat", "--json")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    names = [line["file"] for line in lines]
    assert len(lines) == 9 and len(set(names)) == 9
    assert names[3] == f"{packed}/a/1.jpg" and names[7] == f"{tmp_path}/set.parquet/set.parquet row 1"
    assert [line["predicted_class"] for line in lines[:2]] == ["dog", "cat"]
    for start in (3, 6):
        assert [line["score"] for line in lines[start : start + 3]] == pytest.approx(
            [line["score"] for line in lines[:3]]
        )
    plain = run_inside("score", folder, "--classes", "dog,cat")
    assert len(plain.stdout.splitlines()) == 3


def test_evaluate_takes_the_test_split_and_photos_without_labels(photos: dict[str, bytes], tmp_path: Path) -> None:
    known = {
        f"{split}/{name[:-4]}/1.jpg": photos[name] for split in ("train", "test") for name in ("dog.jpg", "cat.jpg")
    }
    folder = as_set(known).folder(tmp_path / "known")
    flat = as_set({"church.jpg": photos["church.jpg"]})
    others = [f"--ood=flat={flat.folder(tmp_path / 'flat')}", f"--ood=zip={flat.zip(tmp_path / 'flat.zip')}"]
    done = run_command("evaluate", "--id", folder, *others, "--classes", "dog,cat", "--json")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {(row["ood"], row["n_id"], row["n_ood"]) for row in rows} == {("flat", 2, 1), ("zip", 2, 1)}
    assert "the split test is taken; left out: train (2 images)" in done.stderr
    check_refused(run_inside("evaluate", "--id", folder, "--ood", "x=/none", "--classes", "dog"), "no such file")
    empty = tmp_path / "empty"
    empty.mkdir()
    check_refused(run_inside("evaluate", "--id", folder, "--ood", f"x={empty}", "--classes", "dog"), "No images")


def test_calibration_leaves_out_what_cannot_be_read(photos: dict[str, bytes], tmp_path: Path) -> None:
    asked = ["score", tmp_path / "dog.jpg", "--classes", "dog,cat", "--json", "--tpr", "0.5"]
    (tmp_path / "dog.jpg").write_bytes(photos["dog.jpg"])
    (tmp_path / "empty").mkdir()
    check_refused(run_inside(*asked, "--calibrate", tmp_path / "empty"), "No images were found")
    bad = as_set({"bad.jpg": b"x"}).folder(tmp_path / "bad")
    check_refused(run_inside(*asked, "--calibrate", bad), "none of the 1 photos to calibrate with can be read")
    some = as_set({**photos, "bad.jpg": b"x"}).zip(tmp_path / "some.zip")
    done = run_inside(*asked, "--calibrate", some)
    assert done.returncode == 0 and json.loads(done.stdout)["calibrated"]
    assert "3 of 4 photos are used for calibration" in done.stderr


def test_class_lists_are_read_alike_from_files(photos: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "dog.jpg").write_bytes(photos["dog.jpg"])
    (tmp_path / "classes.txt").write_text("\ufeffdog\r\ntench, Tinca tinca\r\nchain_saw\r\n", encoding="utf-8")
    done = run_inside("score", tmp_path / "dog.jpg", "--classes-file", tmp_path / "classes.txt", "--json")
    assert set(json.loads(done.stdout)["positive"]) == {"dog", "tench, Tinca tinca", "chain saw"}
    both = run_inside("score", tmp_path, "--classes", "a", "--classes-file", tmp_path / "classes.txt")
    check_refused(both, "not both")
    check_refused(run_inside("score", tmp_path, "--classes-file", tmp_path / "none.txt"), r"none\.txt.*cannot be read")
    check_refused(run_inside("score", tmp_path, "--classes-file", tmp_path / "dog.jpg"), "no text|no class names")
    out = tmp_path / "maps"
    asked = ["--classes", "dog,chain_saw", "--class", "Chain  SAW", "--json", "--out", out]
    assert run_inside("heatmap", tmp_path / "dog.jpg", *asked).returncode == 0


def test_photos_of_one_stem_do_not_overwrite_each_other(photos: dict[str, bytes], tmp_path: Path) -> None:
    for folder, name in (("a", "dog.jpg"), ("b", "cat.jpg")):
        as_set({"1.jpg": photos[name]}).folder(tmp_path / folder)
    panels = []
    for folder in ("a", "b", "a"):
        path = tmp_path / folder / "1.jpg"
        done = run_inside("heatmap", path, "--classes", "dog,cat", "--out", tmp_path / "out", "--json")
        panels.append(json.loads(done.stdout)["panel"])
    assert panels[0] == panels[2] != panels[1]


def test_names_that_are_no_utf8_print_safely(photos: dict[str, bytes], tmp_path: Path) -> None:
    folder = str(tmp_path).encode() + b"/caf\xe9"
    os.mkdir(folder)
    for name in (b"\xe9.jpg", b"\xe8.jpg"):
        with open(folder + b"/" + name, "wb") as file:
            file.write(photos["dog.jpg"])
    path = os.fsdecode(folder)
    done = run_command("score", path, path + "/none.jpg", "--classes", "dog,cat", "--json")
    assert done.returncode == 1, done.stderr
    names = [json.loads(line)["file"] for line in done.stdout.splitlines()]
    assert len(set(names)) == 3 and all("caf\\xe9" in name for name in names)
    refused = run_command("train", path, "--out", tmp_path / "x.safetensors")
    assert refused.returncode == 2 and "Traceback" not in refused.stderr and "class folder" in refused.stderr
