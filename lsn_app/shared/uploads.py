"""What uploaded files stand for: photos, folders, zips and Parquet files as sets of images that are read one by one."""

from __future__ import annotations

import base64
import io
import mimetypes
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lsn_app.serving.encoder import Encoder
from lsn_app.serving.photos import Item, read_file, read_photo
from lsn_app.serving.requests import Problem, problem_at
from lsn_core import UserError
from lsn_core.data.archive import ZipSource
from lsn_core.data.images import IMAGE_SUFFIXES, is_clutter, open_image
from lsn_core.data.labelled import LabelledImages, load_data
from lsn_core.data.sources import DataLimits
from lsn_core.jobs.storage.files import calling

MAX_PHOTOS = 1000
MAX_BYTES = 2**30
ZIP_LIMITS = DataLimits(max_entries=4 * MAX_PHOTOS, max_total_bytes=MAX_BYTES)
_THUMBNAIL = (64, 64)
MAX_IMAGES = 20_000  # of one evaluation
MAX_SETS = 8
_ARCHIVES = (".zip", ".parquet")
_LIMITS = DataLimits(max_entries=4 * MAX_IMAGES, max_total_bytes=4 * 2**30)
OPENED = 200  # of a set, before anything starts


@dataclass
class Batch:
    """Many photos, read once; what they are asked may change.

    Attributes:
        items: the photos.
        left_out: names of files beside them that are no pictures.
        thumbnails: by place, as data links; none where a photo cannot be read.
        errors: by place, why a photo cannot be read.
    """

    items: list[Item]
    left_out: list[str] = field(default_factory=list)
    thumbnails: dict[int, str] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)

    def encode(
        self, encoder: Encoder, on_done: Callable[[int], object] = lambda count: None
    ) -> dict[int, torch.Tensor]:
        """Features, each of shape (1, D), by the place of their photo; from the cache where it has them."""
        places = [place for place in range(len(self.items)) if place not in self.errors]
        found = encoder.encode_many(
            [self.items[place] for place in places],
            on_done,
            lambda i, picture: self.thumbnails.setdefault(places[i], thumbnail(picture)),
        )
        self.errors |= {p: str(error) for p, error in zip(places, found, strict=True) if isinstance(error, UserError)}
        return {p: feature for p, feature in zip(places, found, strict=True) if isinstance(feature, torch.Tensor)}

    def finish_thumbnails(self) -> None:
        """Makes those of photos whose features were cached, so that they were not decoded."""
        for place in set(range(len(self.items))) - self.thumbnails.keys() - self.errors.keys():
            try:
                item = self.items[place]
                self.thumbnails[place] = thumbnail(open_image(item.read(), name=item.name))
            except UserError as error:
                self.errors[place] = str(error)


def thumbnail(picture: Image.Image) -> str:
    """A small JPEG of a picture as a data link."""
    small = picture.copy()
    small.thumbnail(_THUMBNAIL)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=70)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def find_items(files: Sequence[tuple[str, str]]) -> Batch:
    """The photos that uploaded files stand for.

    Args:
        files: path and name of each: photos, the files of a folder, or zips of any layout.

    Raises:
        Problem: a zip cannot be read, there are no pictures, or too many.
    """
    found = Batch([])
    if sum(Path(path).stat().st_size for path, _ in files if Path(path).is_file()) > MAX_BYTES:
        raise Problem("batch", f"The files have more than {MAX_BYTES / 2**30:.3g} GiB together. Give fewer.")
    for path, name in files:
        if name.lower().endswith(".zip"):
            try:
                source = ZipSource(Path(path), ZIP_LIMITS)
            except UserError as error:
                raise Problem("batch", str(error).replace(path, name)) from error
            inside = [(entry, partial(source.read, place)) for place, entry in enumerate(source.files)]
        else:
            inside = [(name, partial(read_file, path, name))]
        for entry, read in inside:
            if _is_picture(entry):
                found.items.append(Item(entry, read))
            elif not is_clutter(entry):
                found.left_out.append(entry)
    if not found.items:
        raise Problem("batch", "There are no pictures in what was given. Give photos, or a folder or zip of photos.")
    if len(found.items) > MAX_PHOTOS:
        raise Problem("batch", f"{len(found.items):,} photos were given; at most {MAX_PHOTOS:,} are taken. Give fewer.")
    return found


def _is_picture(name: str) -> bool:
    # Formats that are not read here count too: whoever gives a HEIC photo is to be told so.
    return Path(name).suffix.lower() in IMAGE_SUFFIXES or str(mimetypes.guess_type(name)[0]).startswith("image/")


def find_photos(files: Sequence[tuple[str, str]]) -> list[Item]:
    """The photos that uploaded files stand for.

    Args:
        files: path and name of each: photos, or one zip of class folders.

    Raises:
        Problem: too many, or a zip beside other files or without class folders.
    """
    zips = [file for file in files if file[1].lower().endswith(".zip")]
    if zips and len(files) > 1:
        raise Problem("files", "Give either photos or one zip of class folders, not both.")
    if zips:
        path, name = zips[0]
        try:
            data = load_data(path, ZIP_LIMITS)
        except UserError as error:
            raise Problem("files", str(error).replace(path, name)) from error
        items = [Item(data.names[i], partial(data.read, i), data.class_names[data.labels[i]]) for i in range(len(data))]
    else:
        items = [Item(name, partial(read_file, path, name)) for path, name in files]
    if len(items) > MAX_PHOTOS:
        raise Problem("files", f"{len(items):,} photos were given; at most {MAX_PHOTOS:,} are taken. Give fewer.")
    return items


@dataclass(frozen=True)
class ImageSet:
    """Images of an evaluation, read one by one.

    Attributes:
        name: what to call the set.
        names: what to call each image, shape (N,).
        classes: the class of each image, shape (N,), or None where that is not known.
        read: encoded bytes of one image by its index. Raises UserError where they cannot be had.
    """

    name: str
    names: tuple[str, ...]
    classes: tuple[str, ...] | None
    read: Callable[[int], bytes]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def counts(self) -> dict[str, int]:
        """Class name -> number of images; empty where classes are not known."""
        return dict(Counter(self.classes or ()))

    def unreadable(self) -> list[str]:
        """What is wrong with those of up to OPENED images, evenly spread, that cannot be read."""
        found = []
        for index in np.unique(np.linspace(0, len(self) - 1, min(OPENED, len(self))).round().astype(int)).tolist():
            try:
                open_image(self.read(index), name=self.names[index])
            except UserError as error:
                found.append(str(error))
        return found


def open_known(files: Sequence[tuple[str, str]]) -> ImageSet | None:
    """The in-distribution images that uploaded files stand for, None for no files.

    Args:
        files: path and name of each: photos, or one zip or Parquet file; a zip without folders has no classes.

    Raises:
        Problem: they cannot be used.
    """
    if not files:
        return None
    archives = [file for file in files if _is_archive(file)]
    if archives and len(files) > 1:
        raise Problem(
            "known", "Give one zip or Parquet file of the known classes, or photos by themselves; remove the others."
        )
    with problem_at("known"):
        return _open_archive(*archives[0], labelled=True) if archives else _loose(files)


def open_others(files: Sequence[tuple[str, str]]) -> list[ImageSet]:
    """The out-of-distribution sets: each zip or Parquet file is one, photos by themselves make another.

    Args:
        files: path and name of each.

    Raises:
        Problem: they cannot be used, or are too many sets.
    """
    archives, photos = [file for file in files if _is_archive(file)], [file for file in files if not _is_archive(file)]
    with problem_at("others"):
        sets = [_open_archive(*file, labelled=False) for file in archives]
    if photos:
        sets.append(_loose(photos))
    if len(sets) > MAX_SETS:
        raise Problem("others", f"{len(sets)} sets were given; at most {MAX_SETS} are taken. Give fewer.")
    return _told_apart(sets)


def _is_archive(file: tuple[str, str]) -> bool:
    return file[1].lower().endswith(_ARCHIVES)


def _open_archive(path: str, name: str, labelled: bool) -> ImageSet:
    source, stem = Path(path), Path(name).stem
    with calling(source, name):
        if name.lower().endswith(".zip"):
            packed = ZipSource(source, _LIMITS)
            chosen = [i for i, file in enumerate(packed.files) if Path(file).suffix.lower() in IMAGE_SUFFIXES]
            if not chosen:
                raise UserError(f"{name}: there are no image files in it.")
            if not labelled or not any("/" in packed.files[i] for i in chosen):
                names = tuple(packed.files[i] for i in chosen)
                return ImageSet(stem, names, None, lambda index: packed.read(chosen[index]))
        data: LabelledImages = load_data(source, _LIMITS)
        classes = tuple(data.class_names[label] for label in data.labels) if labelled else None
        return ImageSet(stem, data.names, classes, data.read)


def _loose(files: Sequence[tuple[str, str]]) -> ImageSet:
    def read(index: int) -> bytes:
        path, name = files[index]
        read_photo(path, name)  # refuses a file that is too large or gone
        return Path(path).read_bytes()

    return ImageSet("photos", tuple(name for _, name in files), None, read)


def _told_apart(sets: list[ImageSet]) -> list[ImageSet]:
    seen: Counter[str] = Counter()
    found = []
    for one in sets:
        seen[one.name] += 1
        name = one.name if seen[one.name] == 1 else f"{one.name} ({seen[one.name]})"
        found.append(ImageSet(name, one.names, one.classes, one.read))
    return found
