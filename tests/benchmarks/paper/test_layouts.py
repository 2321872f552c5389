"""Image sets as people have them: odd names and endings, links, leftovers of systems, nested and flat folders."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks.paper.folders import Folders, class_list, find_imagenet, find_ood
from benchmarks.paper.made_up import wnids, write_tree
from lsn_core import UserError

TEN = class_list("ImageNet-10")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "all sets"  # with a space
    write_tree(folder, wnids(10), 3, 2, 4)
    return folder


def counts(tree: Path) -> tuple[int, int, dict[str, int]]:
    split = Folders(tree / "imagenet", tree / "ood").split("ImageNet-10")
    return len(split.train), len(split.id_test), {name: len(data) for name, data in split.ood.items()}


FOUR = dict.fromkeys(("iNaturalist", "SUN", "Places", "Textures"), 4)


def test_names_and_endings_in_any_case_and_leftovers_of_systems_do_not_matter(tree: Path) -> None:
    train, ood = tree / "imagenet" / "train", tree / "ood"
    for ending, path in zip(("jpg", "PNG", "Jpeg"), sorted((train / TEN[0]).iterdir()), strict=True):
        path.rename(path.with_suffix(f".{ending}"))
    (train / TEN[1]).rename(train / TEN[1].upper())
    (train / TEN[2] / "images").mkdir()
    for path in list((train / TEN[2]).glob("*.JPEG")):
        path.rename(train / TEN[2] / "images" / path.name)
    for folder in (train, train / TEN[3], ood, ood / "SUN", ood / "SUN" / "images"):
        (folder / ".DS_Store").write_bytes(b"x")
        (folder / "README.md").write_text("x")
        (folder / "._cat.JPEG").write_bytes(b"x")
        (folder / "empty").mkdir()
    (ood / "dtd").rename(ood / "TEXTURES")
    (ood / "iNaturalist").rename(ood / "inaturalist")
    for number, path in enumerate(sorted((ood / "Places" / "images").iterdir())):
        path.rename(path.with_suffix(".JPG" if number else ".png"))
    (tree / "imagenet" / "train").rename(tree / "imagenet" / "Train")
    assert counts(tree) == (30, 20, FOUR)


def test_links_to_folders_are_followed_and_circles_end(tree: Path) -> None:
    elsewhere = tree / "elsewhere"
    elsewhere.mkdir()
    places = ("imagenet/train", f"imagenet/train/{TEN[0]}", "ood/SUN", "ood/Places/images")
    for number, place in enumerate(places):
        shutil.move(tree / place, elsewhere / str(number))
        (tree / place).symlink_to(elsewhere / str(number))
    (tree / "ood" / "SUN" / "images" / "up").symlink_to(tree / "ood" / "SUN")
    (tree / "imagenet" / "up").symlink_to(tree)
    assert counts(tree) == (30, 20, FOUR)


def test_test_images_are_those_beside_the_training_images(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another set has a folder of that name, and stands first."""
    (tree / "coco" / "val").mkdir(parents=True)
    (tree / "coco" / "val" / "000000000139.jpg").touch()
    assert find_imagenet(tree).val == tree / "imagenet" / "val"
    monkeypatch.chdir(tree / "imagenet" / "train")
    assert find_imagenet(Path()).val.samefile(tree / "imagenet" / "val")
    shutil.move(tree / "imagenet" / "train", tree / "elsewhere")
    (tree / "imagenet" / "train").symlink_to(tree / "elsewhere")
    assert find_imagenet(tree).val == tree / "imagenet" / "val"


def test_a_link_that_leads_nowhere_is_an_image_that_cannot_be_read(tree: Path) -> None:
    (tree / "imagenet" / "train" / TEN[0] / "0.JPEG").symlink_to(tree / "nowhere.JPEG")
    data = Folders(tree / "imagenet", tree / "ood").split("ImageNet-10").train
    with pytest.raises(UserError, match=r"0\.JPEG: the file cannot be read"):
        data.read(data.names.index(f"{TEN[0]}/0.JPEG"))


def test_both_parts_may_be_flat_where_names_have_wnids_as_in_the_hubs_copy(tree: Path) -> None:
    for part, name in (("train", "{wnid}_{n}_{wnid}"), ("val", "ILSVRC2012_val_{n:08d}_{wnid}")):
        folder = tree / "imagenet" / part
        for n, path in enumerate(sorted(folder.rglob("*.JPEG"))):
            path.rename(folder / f"{name.format(n=n, wnid=path.parent.name)}.JPEG")
        for wnid in TEN:
            (folder / wnid).rmdir()
    split = Folders(tree / "imagenet", tree / "ood").split("ImageNet-10")
    assert (len(split.train), len(split.id_test)) == (30, 20)
    for data in (split.train, split.id_test):
        assert all(TEN[label] in name for name, label in zip(data.names, data.labels, strict=True))
    next((tree / "imagenet" / "val").glob(f"*{TEN[4]}*")).unlink()
    next((tree / "imagenet" / "val").glob(f"*{TEN[4]}*")).unlink()
    with pytest.raises(UserError, match=f"ImageNet-10: .*val has no images of the class {TEN[4]}.*labelled so"):
        Folders(tree / "imagenet", tree / "ood").split("ImageNet-10")


def test_the_set_that_lacks_a_class_is_named_and_others_are_open(tree: Path) -> None:
    folders = Folders(tree / "imagenet", tree / "ood")
    folders.split("ImageNet-10")
    with pytest.raises(UserError, match=r"ImageNet-20: .*train has no images of \d+ classes.*by --classes"):
        folders.split("ImageNet-20")


def test_archives_that_wait_are_told_of(tree: Path) -> None:
    shutil.rmtree(tree / "imagenet" / "train")
    (tree / "imagenet" / "train").mkdir()
    (tree / "imagenet" / "train" / "n01440764.tar").touch()
    with pytest.raises(UserError, match=r"no ImageNet training set.*Unpack .*n01440764.tar first"):
        find_imagenet(tree / "imagenet")
    shutil.rmtree(tree / "ood" / "SUN")
    (tree / "ood" / "SUN.tar.gz").touch()
    with pytest.raises(UserError, match=r"no folder of images of SUN in .*Unpack .*SUN.tar.gz first"):
        find_ood(tree / "ood")


def test_without_test_images_it_says_where_they_were_looked_for(tree: Path) -> None:
    shutil.rmtree(tree / "imagenet" / "val")
    for given in (tree / "imagenet", tree / "imagenet" / "train"):
        with pytest.raises(UserError, match=r"no ImageNet test images in .*imagenet: .*give --val.*There are: train"):
            find_imagenet(given)


def test_a_whole_set_is_not_taken_for_the_subset_of_mos(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.paper import folders

    assert Folders(tree / "imagenet", tree / "ood").too_many() == []
    monkeypatch.setitem(folders.PUBLISHED, "SUN", 3)
    (told,) = Folders(tree / "imagenet", tree / "ood").too_many()
    assert "has 4 images, and MOS's SUN 3" in told
