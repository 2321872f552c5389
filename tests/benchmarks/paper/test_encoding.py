"""Files that cannot be used are all named with their folder, and odd ones that can are used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.harness.images import Images
from benchmarks.paper.encoding import encode
from benchmarks.paper.folders import Folders
from benchmarks.paper.made_up import wnids, write_tree
from lsn_core import UserError
from lsn_core.backbones.backbone import Backbone


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """SUN with a CMYK JPEG, a PNG by the name of a JPEG and a grey picture, as the real sets have them."""
    write_tree(tmp_path, wnids(10), 1, 1, 4)
    folder = tmp_path / "ood" / "SUN" / "images"
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 4), dtype=np.uint8)
    Image.fromarray(noise, "CMYK").save(folder / "cmyk.jpg", "JPEG")
    Image.fromarray(noise[..., :3]).save(folder / "png.JPEG", "PNG")
    Image.fromarray(noise[..., 0]).save(folder / "grey.JPEG", "JPEG")
    return tmp_path


def images(tree: Path, backbone: Backbone) -> Images:
    return Images(backbone, Folders(tree / "imagenet", tree / "ood").ood["SUN"], tree / "features")


def test_odd_files_are_encoded(odd: Path, tiny_backbone: Backbone) -> None:
    found = images(odd, tiny_backbone)
    encode(found, "images")
    assert found.embedding.shape[0] == 7


def test_all_damaged_files_are_named(odd: Path, tiny_backbone: Backbone) -> None:
    folder = odd / "ood" / "SUN" / "images"
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("no picture")
    whole = folder / "images_0.jpg"
    (folder / "half.jpg").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(UserError) as error:
        encode(images(odd, tiny_backbone), f"test images of SUN in {folder}")
    told = str(error.value)
    assert told.startswith(f"3 of 10 test images of SUN in {folder} cannot be used. ")
    assert all(name in told for name in ("empty.jpg", "text.jpg", "half.jpg")) and "cmyk" not in told
    for name in ("empty.jpg", "text.jpg", "half.jpg"):
        (folder / name).unlink()
    encode(images(odd, tiny_backbone), "")


def test_of_many_some_are_named_and_the_rest_counted(odd: Path, tiny_backbone: Backbone) -> None:
    for number in range(8):
        (odd / "ood" / "SUN" / "images" / f"empty{number}.jpg").touch()
    with pytest.raises(UserError, match=r"8 of 15 .* And 3 more\. The same command goes on"):
        encode(images(odd, tiny_backbone), "images")
