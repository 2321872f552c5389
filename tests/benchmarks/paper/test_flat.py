"""What flat folders of images show is read from names and files, and files that do not say it are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.paper.flat import GROUND_TRUTH, META, SOLUTION, flat_labels, names_say, wnid_in
from lsn_core import UserError


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    folder = tmp_path / "ILSVRC" / "Data" / "CLS-LOC" / "val"
    folder.mkdir(parents=True)
    for number in (1, 2):
        (folder / f"ILSVRC2012_val_{number:08d}.JPEG").touch()
    return folder


@pytest.mark.parametrize(
    ("name", "wnid"),
    [
        ("ILSVRC2012_val_00000001_n01751748.JPEG", "n01751748"),
        ("n01440764_10026.JPEG", "n01440764"),
        ("n01440764_10026_n01440764.JPEG", "n01440764"),
        ("N01440764_1.jpg", "n01440764"),
        ("ILSVRC2012_val_00000001.JPEG", ""),
        ("n014407641.JPEG", ""),
    ],
)
def test_wnids_in_names_are_read(name: str, wnid: str) -> None:
    assert wnid_in(name) == wnid


def test_names_say_it_only_where_all_do(flat: Path) -> None:
    assert not names_say(flat)
    for path in list(flat.iterdir()):
        path.rename(flat / f"{path.stem}_n01751748.JPEG")
    (flat / "._ILSVRC2012_val_00000001_n01751748.JPEG").touch()  # what macOS leaves
    (flat / "README.txt").touch()
    assert names_say(flat)
    assert flat_labels(flat, flat.parent) == {f"ILSVRC2012_val_{n:08d}_n01751748": "n01751748" for n in (1, 2)}


def test_kaggles_file_is_found_above_the_folders_that_kaggle_has_it_above(flat: Path, tmp_path: Path) -> None:
    (tmp_path / SOLUTION).write_text("\ufeffImageId,PredictionString\nILSVRC2012_val_00000001,n01751748 1 2 3 4 \n")
    assert flat_labels(flat, flat.parent) == {"ILSVRC2012_val_00000001": "n01751748"}


@pytest.mark.parametrize(
    "text", ["image,label\na,b\n", "ImageId,PredictionString\na,\n", "ImageId,PredictionString\na\n"]
)
def test_a_file_that_is_not_kaggles_is_named(flat: Path, text: str) -> None:
    (flat.parent / SOLUTION).write_text(text)
    with pytest.raises(UserError, match=r"LOC_val_solution.csv is not as Kaggle has it.*Get it again"):
        flat_labels(flat, flat)


@pytest.mark.parametrize("damage", ["meta", "truth"])
def test_a_devkit_that_is_damaged_is_named(flat: Path, damage: str) -> None:
    import numpy as np
    from scipy.io import savemat

    (flat.parent / GROUND_TRUTH).write_text("1\nseven\n" if damage == "truth" else "1\n1\n")
    synsets = np.array([(1, "n01751748")], dtype=[("ILSVRC2012_ID", "i4"), ("WNID", "U9")])
    savemat(flat.parent / META, {"synsets": synsets})
    if damage == "meta":
        (flat.parent / META).write_bytes(b"no MATLAB")
    with pytest.raises(UserError, match=r"are not as the devkit has them.*Get both again"):
        flat_labels(flat, flat)
