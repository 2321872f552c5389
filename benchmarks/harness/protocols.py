"""What is known and what is not: the paper's splits and large-scale settings, and small stand-ins for them.

Class splits and class lists are files in `benchmarks/data/`, with their sources.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES
from timm.data import ImageNetInfo

from lsn_core.class_names import fold_name
from lsn_core.data.labelled import LabelledImages, load_data
from lsn_core.data.photos import load_photos
from lsn_core.data.sources import Unlabelled
from lsn_core.errors import UserError

FILES = Path(__file__).resolve().parents[1] / "data"
ZOC = ("CIFAR10", "CIFAR+10", "CIFAR+50", "CIFAR100", "TinyImageNet")
IMAGENET = ("ImageNet-10", "ImageNet-20", "ImageNet-100", "ImageNet-1k")
# Ours -> what the paper uses in its place.
STAND_INS = {
    "flowers/test": "iNaturalist (flowers)",
    "sun/test": "SUN (9 scenes)",
    "miniplaces/val": "Places (MiniPlaces, 128 px)",
    "textures/test": "Textures (10 of 47)",
}
TEST_SETS = ("imagenette", "cifar10", "caltech101", "tinyimagenet", "cifar100", "imagenet1k")
_TRAIN, _TEST = ("train",), ("test", "val", "validation")
_SUFFIXES = ("", ".parquet", ".zip")


@dataclass(frozen=True)
class Split:
    """One setting of known classes and images that show none of them.

    Attributes:
        protocol: the name of the table's column group, for example "CIFAR+10".
        name: of this split among its protocol's.
        train: labelled images of the known classes to learn from; `class_names` are the C known classes.
        id_test: other images of the known classes.
        ood: test images of none of them, by the name of their set.
    """

    protocol: str
    name: str
    train: LabelledImages
    id_test: LabelledImages
    ood: dict[str, LabelledImages]


def zoc_splits(data: Path, protocol: str) -> list[Split]:
    """The splits of ZOC (Esmaeilpour et al., 2022) that the paper's Table 3 uses: five of each, one of CIFAR+50.

    Args:
        data: folder with the sets cifar10, cifar100 and tinyimagenet, each with `train` and `test` or `val` (a Parquet
            file, a zip or a folder of class folders).
        protocol: one of `ZOC`.
    """
    found = json.loads((FILES / "zoc_splits.json").read_text())[protocol]
    train = load_data(find_train(data / found["id_set"]))
    known = load_data(find_test(data / found["id_set"]))
    unknown = known if found["ood_set"] == found["id_set"] else load_data(find_test(data / found["ood_set"]))
    return [
        Split(
            protocol,
            split["name"],
            train.select_classes(split["id_names"]),
            known.select_classes(split["id_names"]),
            {protocol: unknown.select_classes(split["ood_names"])},
        )
        for split in found["splits"]
    ]


def imagenet_split(id_root: Path, ood_root: Path, protocol: str) -> Split:
    """One of the paper's large-scale settings, on folders.

    Args:
        id_root: holds `train` and `val` (or `test`), each with one folder per class. Folders named by ImageNet's wnids
            get the class names that CLIP uses; others are named by their folder.
        ood_root: holds one folder (or Parquet file, or zip) for each OOD set, for example iNaturalist, SUN, Places and
            Textures as MCM provides them.
        protocol: one of `IMAGENET`, or any other name for all classes in `id_root`.
    """
    subsets = json.loads((FILES / "imagenet_subsets.json").read_text())
    train, test = (load_data(find(id_root)) for find in (find_train, find_test))
    wanted = subsets.get(protocol, train.class_names)
    missing = sorted({name.lower() for name in wanted} - {name.lower() for name in train.class_names})
    if missing:
        raise UserError(
            f"{id_root} lacks {len(missing)} classes of {protocol}, such as {missing[0]}. Its train folder must hold "
            "one folder per class, named by wnid."
        )
    names = imagenet_names()
    train, test = (
        replace(images, class_names=tuple(names.get(name, name) for name in images.class_names))
        for images in (train.select_classes(wanted), test.select_classes(wanted))
    )
    sets = [path for path in sorted(ood_root.iterdir()) if path.is_dir() or path.suffix in _SUFFIXES[1:]]
    if not sets:
        raise UserError(f"{ood_root} holds no OOD set: put one folder of images in it for each.")
    return Split(protocol, protocol, train, test, {path.stem: load_ood(path) for path in sets})


def load_ood(path: Path) -> LabelledImages:
    """Images of an OOD set, by their folders where they have some; the others are all of one class."""
    try:
        return load_data(path)
    except Unlabelled:
        photos = load_photos(path)
        labels, rows = np.zeros(len(photos), dtype=np.int64), np.arange(len(photos))
        return LabelledImages((path.stem,), labels, photos.names, photos.read, rows)


def stand_in_split(data: Path) -> Split:
    """Imagenette (10 ImageNet classes) against small stand-ins for the paper's four OOD sets, see `STAND_INS`."""
    return Split(
        "Imagenette",
        "imagenette",
        load_data(find_train(data / "imagenette")),
        load_data(find_test(data / "imagenette")),
        far_sets(data),
    )


def far_sets(data: Path) -> dict[str, LabelledImages]:
    """The stand-ins for the paper's four large-scale OOD sets, by their name."""
    return {name: load_data(find_set(data / path, ("",))) for path, name in STAND_INS.items()}


def photos_to_test_on(data: Path, class_names: Sequence[str]) -> LabelledImages:
    """Test images of these classes: of the first of `TEST_SETS` that has all, else each of the first that has it.

    Raises:
        UserError: no set has a class.
    """
    sets = [load_data(find_test(data / name)) for name in TEST_SETS]
    wanted = {fold_name(name) for name in class_names}
    of_set = [{fold_name(name) for name in images.class_names} for images in sets]
    whole = [images for images, names in zip(sets, of_set, strict=True) if wanted <= names]
    if whole:
        return whole[0].select_classes(class_names)
    if missing := sorted(wanted.difference(*of_set)):
        raise UserError(f"No image set has photos of {missing[0]!r}. Known ones: {', '.join(TEST_SETS)}.")
    parts = []
    for label, name in enumerate(class_names):
        images = next(images for images, names in zip(sets, of_set, strict=True) if fold_name(name) in names)
        part = images.select_classes([name])
        parts.append(replace(part, class_names=tuple(class_names), labels=np.full(len(part), label)))
    return join(parts)


def join(parts: Sequence[LabelledImages]) -> LabelledImages:
    """Images of several sets with the same class names, one set after the other."""
    places = [(part, i) for part in parts for i in range(len(part))]

    def read(place: int) -> bytes:
        part, i = places[place]
        return part.read(i)

    labels = np.concatenate([part.labels for part in parts])
    names = tuple(name for part in parts for name in part.names)
    return LabelledImages(parts[0].class_names, labels, names, read, np.arange(len(places)))


def find_train(folder: Path) -> Path:
    """The training images of a set's folder. Raises UserError if there are none."""
    return find_set(folder, _TRAIN)


def find_test(folder: Path) -> Path:
    """The test images of a set's folder. Raises UserError if there are none."""
    return find_set(folder, _TEST)


def find_set(folder: Path, names: Sequence[str]) -> Path:
    """The first of these that exists in the folder, as a folder, Parquet file or zip. Raises UserError if none does."""
    for name in names:
        for suffix in _SUFFIXES:
            path = folder / name if name else folder
            path = path.with_name(path.name + suffix)
            if path.exists():
                return path
    where, wanted = (folder, names) if any(names) else (folder.parent, [folder.name])
    raise UserError(f"There is no {' or '.join(wanted)} in {where}: a folder, .parquet or .zip is looked for.")


@cache
def imagenet_names() -> dict[str, str]:
    """wnid -> class name as CLIP is asked, for the 1,000 classes in order.

    Names that open_clip's list has twice ("missile", "sunglasses") are WordNet's first name of each of the two.
    """
    info = ImageNetInfo("imagenet-1k")
    return {
        wnid: info.index_to_description(index).split(",")[0] if IMAGENET_CLASSNAMES.count(name) > 1 else name
        for index, (wnid, name) in enumerate(zip(info.label_names(), IMAGENET_CLASSNAMES, strict=True))
    }
