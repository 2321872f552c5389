"""ImageNet and the paper's four OOD sets as people have them on disk, found by their folders' names."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from benchmarks.harness.protocols import FILES, IMAGENET, Split, imagenet_names
from benchmarks.paper.flat import SOLUTION, flat_labels, names_say, pictures_in, subfolders
from lsn_core.data.formats import ARCHIVE_SUFFIXES, is_picture
from lsn_core.data.images import printable, walk_files
from lsn_core.data.labelled import LabelledImages
from lsn_core.data.photos import load_photos
from lsn_core.errors import UserError

# As `plain` gives them.
TRAIN = ("train", "training", "ilsvrc2012imgtrain", "imagenettrain", "trainimages")
VAL = ("val", "validation", "valid", "ilsvrc2012imgval", "imagenetval", "valimages")
OOD = {
    "iNaturalist": ("inaturalist", "inat", "inaturalistood"),
    "SUN": ("sun", "sun50", "sunood"),
    "Places": ("places", "places50", "placesood"),
    "Textures": ("textures", "texture", "dtd"),
}
"""The paper's name of each OOD set -> its folder's names, as `plain` gives them."""
PUBLISHED = {"iNaturalist": 10_000, "SUN": 10_000, "Places": 10_000, "Textures": 5_640}
"""Images of each OOD set, as MOS has it."""
DEEP = 4  # folders around the one that is looked for
_WNID = re.compile(r"n\d{8}", re.IGNORECASE)


@dataclass(frozen=True)
class ImageNet:
    """Where ImageNet's images lie.

    Attributes:
        train: one folder for each class, named by its wnid.
        val: the same; either may have all images in one folder, where there are labels.
        labels: file name without its ending -> wnid, for such a `val`; `train_labels`, for such a `train`.
    """

    train: Path
    val: Path
    labels: Mapping[str, str] | None = None
    train_labels: Mapping[str, str] | None = None

    def train_images(self, wnids: Sequence[str]) -> LabelledImages:
        """Training images of these classes, by the names that CLIP is asked with. UserError where a class has none."""
        return _images(self.train, wnids, self.train_labels)

    def test_images(self, wnids: Sequence[str]) -> LabelledImages:
        """Test images of these classes."""
        return _images(self.val, wnids, self.labels)


def find_imagenet(root: Path, val: Path | None = None) -> ImageNet:
    """ImageNet in any of its usual layouts, with folders around it or without.

    Args:
        root: holds `train` and `val` of wnid folders, or is `train` itself, with `val` beside it. Either may be flat,
            where wnids are in the files' names; `val` also with Kaggle's LOC_val_solution.csv or the devkit's ground
            truth and meta.mat beside or above it.
        val: the test images, where they lie elsewhere.

    Raises:
        UserError: a part is missing; says which and where it was looked for.
    """
    _need_folder(root, "--imagenet")
    if val is not None:
        _need_folder(val, "--val")
    train = _find(root, TRAIN, _has_classes) or (root if _has_wnids(root) else None)
    if train is None:
        raise UserError(
            f"There is no ImageNet training set in {root}: a folder called {_listed(TRAIN[:2])} (in any case, up "
            f"to {DEEP} folders deep) with one folder for each class, named by its wnid (n01440764), was looked for. "
            f"{_there(root, TRAIN)}"
        )
    if train == root and plain(root.absolute().name) in VAL:
        raise UserError(
            f"--imagenet: {root} is the test set by its name. Give the folder that has both train and val in it."
        )
    # Other sets around ImageNet have folders of these names, too; and who gives `train` itself has `val` beside it.
    beside = train.absolute().parent if plain(train.absolute().name) in TRAIN else root
    if val is None:
        found = _find(beside, VAL, _has_images) or _find(root, VAL, _has_images)
    else:
        found = val if _has_images(val) else _find(val, VAL, _has_images)
    if found is None:
        raise UserError(
            f"There are no ImageNet test images in {val or beside}: a folder called {_listed(VAL[:3])} was looked for, "
            f"with wnid folders or with images and {SOLUTION} or the devkit. If they lie elsewhere, give --val. "
            f"{_there(val or beside, VAL)}"
        )
    if found.resolve() == train.resolve():
        raise UserError(f"{found} would be both training and test images. Give --val, the test images.")
    return ImageNet(
        train,
        found,
        None if _has_wnids(found) else flat_labels(found, beside),
        None if _has_wnids(train) else flat_labels(train, train),
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
        called = ", ".join(f"{name} (or {_listed(OOD[name][1:])})" for name in missing)
        raise UserError(
            f"There is no folder of images of {', '.join(missing)} in {root}. Looked for, in any case and up to {DEEP} "
            f"folders deep: {called}. {_there(root)} The sets are those of MOS (Huang & Li, 2021), whose page offers "
            "iNaturalist, SUN and Places; Textures is DTD."
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
        try:
            train, test = self.imagenet.train_images(wnids), self.imagenet.test_images(wnids)
        except UserError as error:
            raise UserError(f"{classes}: {error}") from error
        return Split(classes, classes, train, test, self.ood)

    def where(self, name: str) -> Path:
        """The folder of the test images of an OOD set or of some classes."""
        return self._ood.get(name, self.imagenet.val)

    def too_many(self) -> list[str]:
        """Sentences on OOD sets that are larger than the paper's, and so are likely to show classes of ImageNet."""
        return [
            f"{self._ood[name]} has {len(data):,} images, and MOS's {name} {PUBLISHED[name]:,}: in the whole set there "
            "are classes of ImageNet."
            for name, data in self.ood.items()
            if len(data) > PUBLISHED[name]
        ]

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


def _find(root: Path, names: Sequence[str], fits: Callable[[Path], bool]) -> Path | None:
    """The nearest folder of one of these names that fits, the first of the names before the others."""
    found = [(depth, names.index(plain(path.name)), path) for depth, path in _below(root) if plain(path.name) in names]
    return next((path for _, _, path in sorted(found) if fits(path)), None)


def _below(root: Path) -> Iterator[tuple[int, Path]]:
    """The folders of a tree with their depth, but not those of classes or below."""
    level = [root]
    for depth in range(DEEP):
        level = [path for folder in level for path in subfolders(folder) if not _WNID.match(path.name)]
        yield from ((depth, path) for path in level)


def _has_wnids(folder: Path) -> bool:
    return any(_WNID.fullmatch(path.name) for path in subfolders(folder))


def _has_classes(folder: Path) -> bool:
    return _has_wnids(folder) or names_say(folder)


def _has_images(folder: Path) -> bool:
    return _has_wnids(folder) or any(pictures_in(folder))


def _has_images_below(folder: Path) -> bool:
    return any(is_picture(path) for path in walk_files(folder))


def _need_folder(path: Path, option: str) -> None:
    if path.is_file():
        raise UserError(f"{option}: {path} is a file. Give a folder; unpack it first if it is an archive.")
    if not path.is_dir():
        raise UserError(f"{option}: there is no folder {path}. Check the path.")


def _there(folder: Path, wanted: Sequence[str] = ()) -> str:
    """What is in a folder; archives that wait to be unpacked are told of, also in folders of the wanted names."""
    folders = subfolders(folder)
    names = [printable(path.name) for path in folders]
    found = f"There are: {', '.join(names[:12])}{' ...' if len(names) > 12 else ''}." if names else "It has no folders."
    places = [folder, *(path for path in folders if plain(path.name) in wanted)]
    archives = [path for place in places for path in sorted(place.iterdir()) if path.suffix in ARCHIVE_SUFFIXES]
    return f"{found} Unpack {archives[0]} first?" if archives else found


def _listed(names: Sequence[str]) -> str:
    return " or ".join(names)


# -- images ------------------------------------------------------------------------------------------------------------


def _images(root: Path, wnids: Sequence[str], labels: Mapping[str, str] | None) -> LabelledImages:
    """Images of these classes. Raises UserError where a class has none."""
    chosen = _of_folders(root, wnids) if labels is None else _of_flat(root, wnids, labels)
    empty = set(range(len(wnids))) - {label for _, label in chosen}
    if empty:
        some = ", ".join(wnids[label] for label in sorted(empty)[:3])
        many = f"{len(empty)} classes: {some}{f' and {len(empty) - 3} more' if len(empty) > 3 else ''}"
        wants = (
            "a folder of its wnid with images that can be read"
            if labels is None
            else "images whose names are labelled so"
        )
        raise UserError(
            f"{root} has no images of {f'the class {some}' if len(empty) == 1 else many}. Each class needs {wants}; "
            "or choose other sets of classes by --classes."
        )
    names = tuple(name for name, _ in chosen)

    def read(index: int) -> bytes:
        try:
            return (root / names[index]).read_bytes()
        except OSError as error:
            raise UserError(f"{names[index]}: the file cannot be read ({error.strerror}).") from error

    titles = imagenet_names()
    numbers = np.array([label for _, label in chosen], dtype=np.int64)
    return LabelledImages(tuple(titles[wnid] for wnid in wnids), numbers, names, read, np.arange(len(names)))


def _of_folders(root: Path, wnids: Sequence[str]) -> list[tuple[str, int]]:
    """Images of class folders, by their paths below `root`, each with its class."""
    folder_of = {path.name.lower(): path for path in subfolders(root)}
    return [
        (f"{folder.name}{path[len(str(folder)) :]}", label)
        for label, wnid in enumerate(wnids)
        if (folder := folder_of.get(wnid))
        for path in walk_files(folder)
        if is_picture(path)
    ]


def _of_flat(root: Path, wnids: Sequence[str], labels: Mapping[str, str]) -> list[tuple[str, int]]:
    label_of = {wnid: label for label, wnid in enumerate(wnids)}
    found = ((name, label_of.get(labels.get(Path(name).stem, ""))) for name in sorted(pictures_in(root)))
    return [(name, label) for name, label in found if label is not None]
