"""Image sets are found in the layouts that people have, and what is missing is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from benchmarks.paper.folders import Folders, class_list, find_imagenet, find_ood
from benchmarks.paper.made_up import wnids, write_tree
from lsn_core import UserError


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ten classes of ImageNet-10 and two more."""
    folder = tmp_path_factory.mktemp("tree")
    write_tree(folder, wnids(12), 3, 2, 4)
    return folder


@pytest.fixture
def copy(tree: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tree, tmp_path / "copy"))


def test_a_setting_has_the_papers_classes_by_the_names_that_clip_is_asked_with(tree: Path) -> None:
    split = Folders(tree / "imagenet", tree / "ood").split("ImageNet-10")
    assert split.train.class_names[:4] == ("military aircraft", "sports car", "brambling", "Siamese cat")
    assert (len(split.train), len(split.id_test)) == (30, 20)
    assert {name: len(data) for name, data in split.ood.items()} == dict.fromkeys(
        ("iNaturalist", "SUN", "Places", "Textures"), 4
    )
    assert split.train.read(0).startswith(b"\xff\xd8")
    assert split.train.names[0].startswith(class_list("ImageNet-10")[0])


def test_folders_around_the_sets_and_other_spellings_do_not_matter(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "ILSVRC" / "Data").mkdir(parents=True)
    (copy / "imagenet").rename(tmp_path / "ILSVRC" / "Data" / "CLS-LOC")
    found = find_imagenet(tmp_path / "ILSVRC")
    assert found.train == tmp_path / "ILSVRC" / "Data" / "CLS-LOC" / "train"
    assert found.labels is None
    (copy / "ood" / "iNaturalist").rename(copy / "ood" / "inaturalist")
    (copy / "ood" / "dtd").rename(copy / "ood" / "Texture")
    (copy / "ood").rename(copy / "sets")
    assert find_ood(copy)["Textures"] == copy / "sets" / "Texture" / "images"


@pytest.mark.parametrize("kind", ["kaggle", "devkit"])
def test_a_flat_folder_of_test_images_is_read_with_the_file_that_says_what_they_show(copy: Path, kind: str) -> None:
    classes, val = wnids(12), copy / "imagenet" / "val"
    shown = {}
    for number, path in enumerate(sorted(val.rglob("*.JPEG")), 1):
        shown[f"ILSVRC2012_val_{number:08d}"] = path.parent.name
        path.rename(val / f"ILSVRC2012_val_{number:08d}.JPEG")
    for folder in classes:
        (val / folder).rmdir()
    with pytest.raises(UserError, match=r"nothing says what they show.*LOC_val_solution.csv"):
        find_imagenet(copy / "imagenet")
    if kind == "kaggle":
        lines = ["ImageId,PredictionString", *(f"{name},{wnid} 1 2 3 4" for name, wnid in shown.items())]
        (copy / "imagenet" / "LOC_val_solution.csv").write_text("\n".join(lines))
    else:
        devkit = copy / "imagenet" / "ILSVRC2012_devkit_t12" / "data"
        devkit.mkdir(parents=True)
        order = list(reversed(classes))  # the devkit's numbers are not those of the sorted wnids
        synsets = np.array(
            [(i + 1, wnid) for i, wnid in enumerate(order)], dtype=[("ILSVRC2012_ID", "i4"), ("WNID", "U9")]
        )
        savemat(devkit / "meta.mat", {"synsets": synsets})
        truth = "\n".join(str(order.index(wnid) + 1) for wnid in shown.values())
        (devkit / "ILSVRC2012_validation_ground_truth.txt").write_text(truth)
    found = find_imagenet(copy / "imagenet").test_images(class_list("ImageNet-10"))
    assert len(found) == 20
    wanted = class_list("ImageNet-10")
    assert all(shown[Path(name).stem] == wanted[label] for name, label in zip(found.names, found.labels, strict=True))


def test_wnid_folders_alone_serve_where_the_test_images_are_given(tree: Path) -> None:
    train, val = tree / "imagenet" / "train", tree / "imagenet" / "val"
    found = find_imagenet(train, val)
    assert (found.train, found.val) == (train, val)
    assert find_imagenet(train) == found  # as it has `val` beside it
    with pytest.raises(UserError, match="is the test set by its name"):
        find_imagenet(val)
    with pytest.raises(UserError, match=r"both training and test images\. Give --val"):
        find_imagenet(train, train)


def test_what_is_missing_is_named_with_where_it_was_looked_for(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--imagenet: there is no folder .*nowhere"):
        find_imagenet(tmp_path / "nowhere")
    (tmp_path / "all.tar").touch()
    with pytest.raises(UserError, match=r"--ood: .*all.tar is a file.*unpack it"):
        find_ood(tmp_path / "all.tar")
    with pytest.raises(UserError, match=r"no ImageNet training set in .*There are: Places, SUN, dtd"):
        find_imagenet(copy / "ood")
    shutil.rmtree(copy / "ood" / "SUN")
    shutil.rmtree(copy / "ood" / "dtd" / "images")
    with pytest.raises(UserError, match=r"no folder of images of SUN, Textures in .*ood.*There are: Places, dtd"):
        find_ood(copy / "ood")
    shutil.rmtree(copy / "imagenet" / "val" / class_list("ImageNet-10")[2])
    folders = find_imagenet(copy / "imagenet")
    with pytest.raises(UserError, match="no images of the class n01530575"):
        folders.test_images(class_list("ImageNet-10"))
    with pytest.raises(UserError, match="no images of 988 classes"):
        folders.train_images(class_list("ImageNet-1k"))
