"""The paper's class splits and class lists, and folders in their layout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import make_folders

from benchmarks.harness.protocols import FILES, ZOC, imagenet_names, imagenet_split, stand_in_split, zoc_splits
from lsn_core import UserError

SIZES = {"CIFAR10": (6, 4), "CIFAR+10": (4, 10), "CIFAR+50": (4, 50), "CIFAR100": (20, 80), "TinyImageNet": (20, 180)}


@pytest.mark.parametrize("protocol", ZOC)
def test_the_splits_are_those_of_the_paper(shared_data: Path, protocol: str) -> None:
    splits = zoc_splits(shared_data, protocol)
    assert len(splits) == (1 if protocol == "CIFAR+50" else 5)
    for split in splits:
        (ood,) = split.ood.values()
        assert (len(split.train.class_names), len(ood.class_names)) == SIZES[protocol]
        assert split.train.class_names == split.id_test.class_names
        assert not set(split.train.class_names) & set(ood.class_names)
        assert set(split.id_test.labels) == set(range(len(split.train.class_names)))


def test_the_first_cifar10_split_is_table_6s(shared_data: Path) -> None:
    split = zoc_splits(shared_data, "CIFAR10")[0]
    assert split.train.class_names == ("airplane", "automobile", "truck", "horse", "cat", "bird")


def test_stand_ins_cover_the_papers_four_sets(shared_data: Path) -> None:
    names = " ".join(stand_in_split(shared_data).ood)
    assert all(name in names for name in ("iNaturalist", "SUN", "Places", "Textures"))


def test_class_lists_are_imagenet_classes() -> None:
    subsets = json.loads((FILES / "imagenet_subsets.json").read_text())
    for name, count in (("ImageNet-10", 10), ("ImageNet-20", 20), ("ImageNet-100", 100)):
        assert len(set(subsets[name])) == count
        assert set(subsets[name]) <= set(imagenet_names())


def test_imagenet_names_are_1000_different_ones() -> None:
    names = imagenet_names()
    assert len({name.casefold() for name in names.values()}) == 1000
    assert names["n03000684"] == "chainsaw"


def test_folders_get_class_names_from_wnids_and_sets_from_their_folders(tmp_path: Path) -> None:
    split = imagenet_split(*make_folders(tmp_path), "my classes")
    assert split.train.class_names == ("Siamese cat", "common sorrel horse", "container ship")
    assert {name: len(images) for name, images in split.ood.items()} == {"dtd": 2, "iNaturalist": 2}
    assert len(split.id_test) == 6


def test_a_missing_class_of_a_named_protocol_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"lacks 7 classes of ImageNet-10.*one folder per class"):
        imagenet_split(*make_folders(tmp_path), "ImageNet-10")


def test_a_root_without_train_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no train in .*: a folder, \.parquet or \.zip"):
        imagenet_split(tmp_path, tmp_path, "ImageNet-10")
