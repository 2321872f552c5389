"""`score --format`: the files of each tool, and what is refused before a photo is scored."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest
from support import run_inside

from lsn_core.handoff.files import Format, common_folder, open_handoff
from lsn_core.handoff.verdict import Origin


@pytest.fixture
def photos(examples: Path, tmp_path: Path) -> Path:
    for name in ("a/dog", "b/zebra"):
        (tmp_path / "new" / name).parent.mkdir(parents=True)
        shutil.copy(examples / f"{Path(name).name}.jpg", tmp_path / "new" / f"{name}.jpg")
    (tmp_path / "new" / "broken.jpg").write_bytes(b"no picture")
    return tmp_path / "new"


@pytest.mark.parametrize(
    ("form", "out", "files"),
    [
        ("label-studio", "tasks.json", {"tasks.json", "tasks.xml"}),
        ("fiftyone", "set", {"set/metadata.json", "set/samples.json"}),
        ("coco", "x.json", {"x.json"}),
    ],
)
def test_each_tool_gets_its_files(photos: Path, tmp_path: Path, form: str, out: str, files: set[str]) -> None:
    target = tmp_path / "out"
    target.mkdir()
    options = ["--classes", "dog,cat", "--format", form, "--out", target / out]
    done = run_inside("score", *options, photos, tmp_path / "gone.jpg")
    assert done.returncode == 1 and done.stdout == ""  # two cannot be read
    assert {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()} == files
    content = json.loads((target / sorted(files)[-1 if form == "fiftyone" else 0]).read_text(encoding="utf-8"))
    if form == "label-studio":
        assert [task["data"]["image"].split("?d=")[1] for task in content] == ["new/a/dog.jpg", "new/b/zebra.jpg"]
        assert [task["data"]["verdict"] for task in content] == ["known", "unknown"]
        assert {task["predictions"][0]["model_version"] for task in content} == {"zero-shot (neglabel)"}
    elif form == "fiftyone":
        assert [Path(sample["filepath"]).is_file() for sample in content["samples"]] == [True, True]
    else:
        assert [image["file_name"] for image in content["images"]] == ["a/dog.jpg", "b/zebra.jpg"]
        assert [annotation["category_id"] for annotation in content["annotations"]] == [1, 3]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--format", "label-studio"], "needs --out: a .json file"),
        (["--format", "fiftyone"], "needs --out: a new folder"),
        (["--format", "coco", "--out", "x.csv"], "ends in .json"),
        (["--format", "fiftyone", "--out", "x.json"], "is a folder"),
        (["--format", "fiftyone", "--out", "."], "new or empty"),
        (["--format", "coco", "--out", "no/x.json"], "Make it first"),
        (["--format", "fiftyone", "--out", "x", "--image-prefix", "s3://b/"], "--image-prefix"),
        (["--out", "x.csv", "--image-prefix", "s3://b/"], "--image-prefix"),
        (["--out", "x.json"], "--format"),
        (["--format", "cvat", "--out", "x.json"], "label-studio"),
    ],
)
def test_wrong_combinations_are_told_before(examples: Path, options: list[str], sentence: str) -> None:
    done = run_inside("score", "--classes", "dog,cat", *options, examples / "dog.jpg")
    assert done.returncode == 2 and sentence in " ".join(done.stderr.split()) and "Traceback" not in done.stderr


def test_photos_in_an_archive_are_refused(examples: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.write(examples / "zebra.jpg", "in/zebra.jpg")
    done = run_inside(
        "score", "--classes", "dog,cat", "--format", "coco", "--out", tmp_path / "x.json", tmp_path / "set.zip"
    )
    assert done.returncode == 2 and "Unpack" in done.stderr and not (tmp_path / "x.json").exists()


def test_the_common_folder_is_that_of_the_photos_that_are_there(tmp_path: Path) -> None:
    for name in ("a/b/1.jpg", "a/c/2.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    names = [str(tmp_path / "a/b/1.jpg"), str(tmp_path / "a/c/2.jpg"), str(tmp_path / "gone.jpg")]
    assert common_folder(names, names[2:]) == tmp_path / "a"
    assert common_folder(names[:1]) == tmp_path / "a/b"


def test_nothing_is_written_when_it_fails_in_the_middle(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("old")
    with pytest.raises(RuntimeError), open_handoff(Format.COCO, tmp_path / "x.json", Origin("m", [], tmp_path)):
        raise RuntimeError
    assert (tmp_path / "x.json").read_text() == "old" and len(list(tmp_path.iterdir())) == 1
