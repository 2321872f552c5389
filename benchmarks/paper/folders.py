"""ImageNet and the paper's four OOD sets as people have them on disk, found by their folders' names."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from benchmarks.harness.protocols import FILES, IMAGENET, Split, imagenet_names
from lsn_core.data.formats import is_picture
from lsn_core.data.labelled import LabelledImages
from lsn_core.data.photos import load_photos
from lsn_core.errors import UserError

# As `plain` gives them.
TRAIN = ("train", "training", "ilsvrc2012imgtrain", "imagenettrain")
VAL = ("val", "validation", "valid", "ilsvrc2012imgval", "imagenetval")
OOD = {
    "iNaturalist": ("inaturalist", "inat", "inaturalistood"),
    "SUN": ("sun", "sun50"),
    "Places": ("places", "places50"),
    "Textures": ("textures", "texture", "dtd"),
}
"""The paper's name of each OOD set -> its folder's names, as `plain` gives them."""
DEEP = 4  # folders around the one that is looked for
SOLUTION = "LOC_val_solution.csv"
GROUND_TRUTH, META = "ILSVRC2012_validation_ground_truth.txt", "meta.mat"
_WNID = re.compile(r"n\d{8}")


@dataclass(frozen=True)
class ImageNet:
    """Where ImageNet's images lie.

    Attributes:
        train: one folder for each class, named by its wnid.
        val: the same; or all images in one folder, where there are `labels`.
        labels: file name without its ending -> wnid, for the latter.
    """

    train: Path
    val: Path
    labels: Mapping[str, str] | None = None

    def train_images(self, wnids: Sequence[str]) -> LabelledImages:
        """Training images of these classes, by the names that CLIP is asked with. UserError where a class has none."""
        return _of_folders(self.train, wnids)

    def test_images(self, wnids: Sequence[str]) -> LabelledImages:
        """Test images of these classes."""
        if self.labels is None:
            return _of_folders(self.val, wnids)
        wanted = {wnid: label for label, wnid in enumerate(wnids)}
        files = sorted(entry.name for entry in os.scandir(self.val) if is_picture(entry.name))
        of_file = {name: self.labels.get(Path(name).stem, "") for name in files}
        chosen = [(name, wanted[wnid]) for name, wnid in of_file.items() if wnid in wanted]
        _refuse_empty(self.val, [wnid for wnid in wnids if wnid not in of_file.values()])
        return _labelled(self.val, wnids, chosen)


def find_imagenet(root: Path, val: Path | None = None) -> ImageNet:
    """ImageNet in any of its usual layouts, with folders around it or without.

    Args:
        root: holds `train` and `val` of wnid folders; or `val` flat, with Kaggle's LOC_val_solution.csv or the devkit's
            ground truth and meta.mat beside or above it; or the wnid folders themselves, where `val` is given.
        val: the test images, where they lie elsewhere.

    Raises:
        UserError: a part is missing; says which and where it was looked for.
    """
    _need_folder(root, "--imagenet")
    train = _find(root, TRAIN, _has_wnids) or (root if _has_wnids(root) else None)
    if train is None:
        raise UserError(
            f"There is no ImageNet training set in {root}: a folder called {_listed(TRAIN[:2])} (in any case, up "
            f"to {DEEP} folders deep) with one folder for each class, named by its wnid (n01440764), was looked for. "
            f"{_there(root)}"
        )
    if val is not None:
        _need_folder(val, "--val")
        found = val if _has_wnids(val) or _has_pictures(val) else _find(val, VAL, _has_images)
    else:
        found = _find(root, VAL, _has_images)
    if found is None:
        raise UserError(
            f"There are no ImageNet test images in {val or root}: a folder called {_listed(VAL[:3])} was looked for, "
            f"with wnid folders or with images and {SOLUTION} or the devkit. If they lie elsewhere, give --val. "
            f"{_there(val or root)}"
        )
    return ImageNet(train, found, None if _has_wnids(found) else val_labels(found, root))


def val_labels(flat: Path, root: Path) -> dict[str, str]:
    """wnid of each test image of a flat folder, by its name without the ending.

    Raises:
        UserError: neither of the two files that say it is in `root` or beside the folder.
    """
    for place in dict.fromkeys((flat, flat.parent, root)):
        if solution := _find_file(place, SOLUTION):
            with open(solution, newline="", encoding="utf-8") as file:
                return {row["ImageId"]: row["PredictionString"].split()[0] for row in csv.DictReader(file)}
        truth, meta = _find_file(place, GROUND_TRUTH), _find_file(place, META)
        if truth and meta:
            synsets = loadmat(meta, squeeze_me=True)["synsets"]
            wnid_of = {int(synset["ILSVRC2012_ID"]): str(synset["WNID"]) for synset in synsets}
            numbers = truth.read_text().split()
            return {f"ILSVRC2012_val_{i:08d}": wnid_of[int(number)] for i, number in enumerate(numbers, 1)}
    raise UserError(
        f"{flat} has images in no class folders, and nothing says what they show: put Kaggle's {SOLUTION} beside it, "
        f"or the devkit's {GROUND_TRUTH} and {META}, or sort the images into wnid folders."
    )


def find_ood(root: Path) -> dict[str, Path]:
    """The folder of images of each of the paper's OOD sets, as the MOS benchmark has them.

    Raises:
        UserError: some are missing; names all of them.
    """
    _need_folder(root, "--ood")
    found = {name: _find(root, names, _has_images_below) for name, names in OOD.items()}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        called = "; ".join(f"{name}: {_listed(OOD[name])}" for name in missing)
        raise UserError(
            f"There is no folder of images of {' and of '.join(missing)} in {root}. Looked for, in any case and up to "
            f"{DEEP} folders deep: {called}. {_there(root)} The four sets are those of MOS (Huang & Li, 2021), whose "
            f"page offers iNaturalist, SUN and Places; Textures is DTD."
        )
    return {name: _find(path, ("images",), _has_images_below) or path for name, path in found.items() if path}


class Folders:
    """ImageNet and the OOD sets, opened once for all settings."""

    def __init__(self, imagenet: Path, ood: Path, val: Path | None = None) -> None:
        self.imagenet = find_imagenet(imagenet, val)
        self._ood = find_ood(ood)

    @cache  # noqa: B019 - one for the length of the program
    def split(self, classes: str) -> Split:
        """One of the paper's settings. Raises UserError where classes or images are missing."""
        wnids = class_list(classes)
        train, test = self.imagenet.train_images(wnids), self.imagenet.test_images(wnids)
        return Split(classes, classes, train, test, self.ood)

    @property
    def ood(self) -> dict[str, LabelledImages]:
        """Images of each OOD set."""
        return {name: self._photos(name) for name in self._ood}

    @cache  # noqa: B019
    def _photos(self, name: str) -> LabelledImages:
        photos = load_photos(self._ood[name])
        labels, rows = np.zeros(len(photos), dtype=np.int64), np.arange(len(photos))
        return LabelledImages((name,), labels, photos.names, photos.read, rows)


def class_list(classes: str) -> list[str]:
    """The wnids of one of `IMAGENET`, in the order of its file; those of ImageNet-1k in ImageNet's own."""
    if classes not in IMAGENET:
        raise UserError(f"There are no classes {classes!r}. Known ones: {', '.join(IMAGENET)}.")
    subsets: dict[str, list[str]] = json.loads((FILES / "imagenet_subsets.json").read_text())
    return subsets.get(classes) or list(imagenet_names())


def plain(name: str) -> str:
    """A folder's name without case, spaces and punctuation."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


# -- looking -----------------------------------------------------------------------------------------------------------


def _find(root: Path, names: Sequence[str], fits: object) -> Path | None:
    """The nearest folder of one of these names that fits, the first of the names before the others."""
    assert callable(fits)
    found = [(depth, names.index(plain(path.name)), path) for depth, path in _below(root) if plain(path.name) in names]
    return next((path for _, _, path in sorted(found) if fits(path)), None)


def _below(root: Path) -> Iterator[tuple[int, Path]]:
    """The folders of a tree with their depth, but not those of classes or below."""
    level = [root]
    for depth in range(DEEP):
        level = [Path(entry.path) for folder in level for entry in _folders(folder) if not _WNID.match(entry.name)]
        yield from ((depth, path) for path in level)


def _folders(folder: Path) -> list[os.DirEntry[str]]:
    try:
        return sorted((entry for entry in os.scandir(folder) if entry.is_dir()), key=lambda entry: entry.name)
    except OSError:
        return []


def _find_file(root: Path, name: str) -> Path | None:
    folders = [root, *(path for depth, path in _below(root) if depth < 2)]
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def _has_wnids(folder: Path) -> bool:
    return any(_WNID.fullmatch(entry.name) for entry in _folders(folder))


def _has_pictures(folder: Path) -> bool:
    return any(is_picture(entry.name) for entry in os.scandir(folder))


def _has_images(folder: Path) -> bool:
    return _has_wnids(folder) or _has_pictures(folder)


def _has_images_below(folder: Path) -> bool:
    return any(is_picture(name) for _, _, names in os.walk(folder) for name in names)


def _need_folder(path: Path, option: str) -> None:
    if not path.is_dir():
        raise UserError(f"{option}: there is no folder {path}. Check the path.")


def _there(folder: Path) -> str:
    names = [entry.name for entry in _folders(folder)]
    return f"There are: {', '.join(names[:12])}{' ...' if len(names) > 12 else ''}." if names else "It has no folders."


def _listed(names: Sequence[str]) -> str:
    return " or ".join(names)


# -- images ------------------------------------------------------------------------------------------------------------


def _of_folders(root: Path, wnids: Sequence[str]) -> LabelledImages:
    chosen, empty = [], []
    for label, wnid in enumerate(wnids):
        folder = root / wnid
        files = [name for name in sorted(os.listdir(folder)) if is_picture(name)] if folder.is_dir() else []
        chosen += [(f"{wnid}/{name}", label) for name in files]
        if not files:
            empty.append(wnid)
    _refuse_empty(root, empty)
    return _labelled(root, wnids, chosen)


def _refuse_empty(root: Path, wnids: Sequence[str]) -> None:
    if wnids:
        more = f" and {len(wnids) - 3} more" if len(wnids) > 3 else ""
        raise UserError(
            f"{root} has no images of {len(wnids)} classes: {', '.join(wnids[:3])}{more}. Each class needs a folder of "
            "its wnid with images in it; or leave that class set out by --classes."
        )


def _labelled(root: Path, wnids: Sequence[str], chosen: Sequence[tuple[str, int]]) -> LabelledImages:
    names = tuple(name for name, _ in chosen)

    def read(index: int) -> bytes:
        try:
            return (root / names[index]).read_bytes()
        except OSError as error:
            raise UserError(f"{root / names[index]}: the file cannot be read ({error.strerror}).") from error

    labels = np.array([label for _, label in chosen], dtype=np.int64)
    titles = imagenet_names()
    return LabelledImages(tuple(titles[wnid] for wnid in wnids), labels, names, read, np.arange(len(names)))
