"""What uploaded files stand for: photos, folders, zips and Parquet files as sets of images that are read one by one."""

from __future__ import annotations

import base64
import io
import mimetypes
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import torch
from PIL import Image

from lsn_app.serving.encoder import Encoder
from lsn_app.serving.photos import read_file
from lsn_app.serving.requests import Problem, problem_at
from lsn_core import UserError
from lsn_core.data.archive import ZipSource
from lsn_core.data.collection import ImageList, join
from lsn_core.data.formats import is_photo_of_any_kind
from lsn_core.data.images import is_clutter, open_image, printable
from lsn_core.data.labelled import LabelledImages, load_data
from lsn_core.data.photos import load_photos
from lsn_core.data.sources import DataLimits, Unlabelled
from lsn_core.data.splits import TEST, TRAIN, VALIDATION
from lsn_core.jobs.storage.files import calling

MAX_PHOTOS = 1000
MAX_BYTES = 2**30
ZIP_LIMITS = DataLimits(max_entries=4 * MAX_PHOTOS, max_total_bytes=MAX_BYTES)
_THUMBNAIL = (160, 160)
_AT_ONCE = 32  # photos between two looks at whether to stop
MAX_IMAGES = 20_000  # of one evaluation
MAX_SETS = 8
_ARCHIVES = (".zip", ".parquet")
_LIMITS = DataLimits(max_entries=4 * MAX_IMAGES, max_total_bytes=4 * 2**30)
OPENED = 200  # of a set, before anything starts


@dataclass
class Batch:
    """Many photos, read once; what they are asked may change.

    Attributes:
        images: the photos.
        left_out: names of files beside them that are no pictures.
        thumbnails: by index of the photo, as data links; none where it cannot be read.
        errors: by index, why a photo cannot be read.
        given: how many photos there were before it was stopped; None where it was not.
    """

    images: ImageList
    left_out: list[str] = field(default_factory=list)
    thumbnails: dict[int, str] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)
    given: int | None = None

    def encode(
        self,
        encoder: Encoder,
        progress: Callable[[int, int], None] | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> dict[int, torch.Tensor]:
        """Features, each of shape (1, D), by the index of their photo; from the cache where it has them.

        Args:
            progress: called with (photos done, photos in all).
            stop: asked now and then; once it is True, the photos that were not reached are dropped.
        """
        readable = [index for index in range(len(self.images)) if index not in self.errors]
        features: dict[int, torch.Tensor] = {}
        for start in range(0, len(readable), _AT_ONCE):
            part = readable[start : start + _AT_ONCE]
            if start and stop():
                self._drop_from(part[0])
                break
            features |= self._encode(part, encoder)
            if progress is not None:
                progress(start + len(part), len(readable))
        return features

    def _encode(self, part: list[int], encoder: Encoder) -> dict[int, torch.Tensor]:
        encoded = encoder.encode_all(
            self.images.subset(part),
            on_picture=lambda i, picture: self.thumbnails.setdefault(part[i], thumbnail(picture)),
        )
        for i, (_, problem) in zip(encoded.left_out.tolist(), encoded.errors, strict=True):
            self.errors[part[i]] = problem
        return {part[i]: row[None] for i, row in zip(encoded.kept.tolist(), encoded.features, strict=True)}

    def _drop_from(self, index: int) -> None:
        self.given = self.given or len(self.images)
        self.images = self.images.subset(range(index))
        for kept in (self.thumbnails, self.errors):
            for dropped in [other for other in kept if other >= index]:
                del kept[dropped]

    def finish_thumbnails(self) -> None:
        """Makes those of photos whose features were cached, so that they were not decoded."""
        for index in set(range(len(self.images))) - self.thumbnails.keys() - self.errors.keys():
            try:
                picture = open_image(self.images.read(index), name=self.images.names[index])
                self.thumbnails[index] = thumbnail(picture)
            except UserError as error:
                self.errors[index] = str(error)


def thumbnail(picture: Image.Image) -> str:
    """A small JPEG of a picture as a data link."""
    small = picture.copy()
    small.thumbnail(_THUMBNAIL)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=70)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def open_batch(files: Sequence[tuple[str, str]]) -> Batch:
    """The photos that uploaded files stand for.

    Args:
        files: path and name of each: photos, the files of a folder, or zips of any layout. Photos of one name are
            numbered, so that no two of the batch are called the same.

    Raises:
        Problem: a zip cannot be read, there are no pictures, or too many.
    """
    if sum(Path(path).stat().st_size for path, _ in files if Path(path).is_file()) > MAX_BYTES:
        raise Problem("batch", f"The files have more than {MAX_BYTES / 2**30:.3g} GiB together. Give fewer.")
    parts = []
    for path, name in files:
        with problem_at("batch"), calling(Path(path), name):
            zipped = name.lower().endswith(".zip")
            parts.append(_zipped(Path(path)) if zipped else _loose([(path, name)]))
    everything = join(parts)
    pictures = [index for index, name in enumerate(everything.names) if _is_picture(name)]
    if not pictures:
        raise Problem("batch", "There are no pictures in what was given. Give photos, or a folder or zip of photos.")
    if len(pictures) > MAX_PHOTOS:
        raise Problem("batch", f"{len(pictures):,} photos were given; at most {MAX_PHOTOS:,} are taken. Give fewer.")
    others = [name for name in everything.names if not _is_picture(name) and not _is_clutter(name)]
    images = everything.subset(pictures)
    return Batch(replace(images, names=_numbered(images.names)), others)


def _numbered(names: Sequence[str]) -> tuple[str, ...]:
    used = set(names)
    given: set[str] = set()
    numbered = []
    for name in names:
        path, count, own = PurePosixPath(name), 1, name
        while own in given or (count > 1 and own in used):
            count += 1
            own = str(path.with_stem(f"{path.stem} ({count})"))
        given.add(own)
        numbered.append(own)
    return tuple(numbered)


def _is_clutter(name: str) -> bool:
    return any(is_clutter(part) for part in name.split("/"))


def _is_picture(name: str) -> bool:
    # Formats that are not read here count too: whoever gives a HEIC photo is to be told so.
    if _is_clutter(name):
        return False
    return is_photo_of_any_kind(name) or str(mimetypes.guess_type(name)[0]).startswith("image/")


def open_photos(files: Sequence[tuple[str, str]]) -> ImageList:
    """The photos that uploaded files stand for, with their classes where they are given.

    Args:
        files: path and name of each: photos, or one zip of class folders.

    Raises:
        Problem: too many, or a zip beside other files or without class folders.
    """
    zips = [file for file in files if file[1].lower().endswith(".zip")]
    if zips and len(files) > 1:
        raise Problem("files", "Give either photos or one zip of class folders, not both.")
    images = _loose(files)
    if zips:
        path, name = zips[0]
        with problem_at("files"), calling(Path(path), name):
            images = _labelled(load_data(path, ZIP_LIMITS, guess=(TRAIN, VALIDATION, TEST)))
    if len(images) > MAX_PHOTOS:
        raise Problem("files", f"{len(images):,} photos were given; at most {MAX_PHOTOS:,} are taken. Give fewer.")
    return images


def open_known(files: Sequence[tuple[str, str]]) -> ImageList | None:
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


def open_others(files: Sequence[tuple[str, str]]) -> list[ImageList]:
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


def _open_archive(path: str, name: str, labelled: bool) -> ImageList:
    source, title = Path(path), Path(name).stem
    with calling(source, name):
        if not labelled:
            return replace(load_photos(source, _LIMITS), title=title)
        try:
            images = load_data(source, _LIMITS, guess=(TEST, VALIDATION))
        except Unlabelled:
            return replace(load_photos(source, _LIMITS), title=title)
        return replace(_labelled(images), title=title)


def _zipped(path: Path) -> ImageList:
    archive = ZipSource(path, ZIP_LIMITS)
    return ImageList(tuple(archive.files), archive.read)


def _labelled(data: LabelledImages) -> ImageList:
    return ImageList(data.names, data.read, tuple(data.class_names[label] for label in data.labels))


def _loose(files: Sequence[tuple[str, str]]) -> ImageList:
    names = tuple(printable(name) for _, name in files)
    return ImageList(_numbered(names), lambda index: read_file(files[index][0], names[index]), title="photos")


def _told_apart(sets: list[ImageList]) -> list[ImageList]:
    counts: Counter[str] = Counter()
    renamed = []
    for images in sets:
        counts[images.title] += 1
        count = counts[images.title]
        renamed.append(images if count == 1 else replace(images, title=f"{images.title} ({count})"))
    return renamed
