"""The made-up tree is the same each time, and holds the paper's classes first."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.paper.folders import class_list
from benchmarks.paper.made_up import wnids, write_tree
from lsn_core import UserError


def test_the_same_arguments_give_the_same_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_tree(tmp_path / name, wnids(3), 2, 1, 4)
    one, two = (
        {path.relative_to(root): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
        for root in (tmp_path / "one", tmp_path / "two")
    )
    assert one == two
    assert len(one) == 3 * (2 + 1) + 4 * 4
    assert len(set(one.values())) == len(one)


def test_the_papers_classes_come_first(tmp_path: Path) -> None:
    assert set(wnids(10)) == set(class_list("ImageNet-10"))
    assert set(class_list("ImageNet-100")) <= set(wnids(130))
    assert sorted(wnids(1000)) == sorted(class_list("ImageNet-1k"))
    with pytest.raises(UserError, match="from 1 to 1000"):
        wnids(1001)
