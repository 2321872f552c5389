"""Images of any origin are read alike: lists of files, parts of a set, several sets as one."""

from __future__ import annotations

from pathlib import Path

import pytest

from lsn_core.data.collection import ImageList, join, list_files, unreadable
from lsn_core.data.labelled import load_data
from lsn_core.errors import UserError


def test_a_list_of_files_is_read_and_what_is_missing_is_named(examples: Path, tmp_path: Path) -> None:
    images = list_files([examples / "dog.jpg", tmp_path / "gone.jpg", str(examples / "cat.jpg")])
    assert len(images) == 3 and images.names[2] == str(examples / "cat.jpg") and images.classes is None
    assert images.read(0) == (examples / "dog.jpg").read_bytes()
    with pytest.raises(UserError, match=r"gone\.jpg: there is no such file"):
        images.read(1)


def test_parts_keep_order_classes_and_content() -> None:
    images = ImageList(("a", "b", "c"), lambda index: b"xyz"[index : index + 1], ("cat", "dog", "hen"), "animals")
    part = images.subset([2, 0]).subset([1, 0, 0])
    assert part.names == ("a", "c", "c") and part.classes == ("cat", "hen", "hen") and part.title == "animals"
    assert [part.read(index) for index in range(3)] == [b"x", b"z", b"z"]


def test_joined_collections_are_read_one_after_the_other(examples: Path, tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.jpg").write_bytes((examples / "cat.jpg").read_bytes())
    both = join([list_files([examples / "dog.jpg"]), load_data(tmp_path), join([])])
    assert both.names == (str(examples / "dog.jpg"), "cat/1.jpg") and both.classes is None
    assert [both.read(0), both.read(1)] == [(examples / f"{name}.jpg").read_bytes() for name in ("dog", "cat")]


def test_a_sample_tells_what_cannot_be_read(examples: Path) -> None:
    dog, asked = (examples / "dog.jpg").read_bytes(), []

    def read(index: int) -> bytes:
        asked.append(index)
        return b"no picture" if index == 0 else dog

    images = ImageList(tuple(f"{index}.jpg" for index in range(101)), read)
    assert [problem.split(":")[0] for problem in unreadable(images, most=5)] == ["0.jpg"]
    assert asked == [0, 25, 50, 75, 100]
    assert unreadable(images.subset([])) == []
