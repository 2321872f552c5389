"""Where the files of jobs lie: one folder a job, and copies of data sets by content, shared between jobs."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import secrets
import shutil
import time
import zipfile
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from lsn_core.class_names import tidy_name
from lsn_core.data.collection import ImageCollection, ImageList
from lsn_core.data.formats import is_picture, suffix
from lsn_core.data.labelled import LabelledImages, load_data
from lsn_core.data.layout import Wanted
from lsn_core.data.photos import load_photos
from lsn_core.data.splits import TRAIN
from lsn_core.errors import UserError
from lsn_core.jobs.limits import JobLimits

RESULT = "detector.safetensors"
FEATURES = "features.safetensors"
LOG = "log.txt"
TRAINING_SPLIT = Wanted(guess=(TRAIN,))
"""What a job takes of a data set where nothing else is asked for: the training split, where there are several."""

_CHUNK = 2**20
_FIXED_TIME = (1980, 1, 1, 0, 0, 0)  # so that the same photos make the same archive
_ABANDONED_SECONDS = 3600.0


@dataclass(frozen=True)
class Incoming:
    """A data set that was copied in, but belongs to no job yet; `name` is what its copy will be called."""

    path: Path
    name: str


class JobFiles:
    """The files below one data directory."""

    def __init__(self, folder: Path) -> None:
        self.root = folder
        self.jobs, self.datasets, self.cache = folder / "jobs", folder / "datasets", folder / "features"
        for path in (self.jobs, self.datasets, self.cache):
            path.mkdir(parents=True, exist_ok=True)

    def folder(self, job_id: str) -> Path:
        """The job's folder."""
        return self.jobs / job_id

    def free(self) -> int:
        """Bytes free on the disk."""
        return shutil.disk_usage(self.root).free

    # -- data sets ----------------------------------------------------------------------------------------------------

    def take_in(self, source: Path, limits: JobLimits, wanted: Wanted | None = TRAINING_SPLIT) -> Incoming:
        """Copies a data set; a folder, and a part of anything, is packed into a zip.

        Args:
            source: a folder of class folders, a zip of one, or a Parquet file.
            wanted: which split and columns of it; None takes photos in any folders, without classes.

        Raises:
            UserError: it is not there, cannot be read, or is larger than a job's data set may be.
        """
        path = self.datasets / f".incoming-{secrets.token_hex(8)}"
        name = source.name
        try:
            with open(path, "xb") as file:
                if source.is_dir() or (wanted is not None and wanted != TRAINING_SPLIT):
                    self._pack(source, limits, file, wanted)
                    suffix = ".zip"
                else:
                    suffix = _copy(source, file, limits)
                file.flush()
                os.fsync(file.fileno())
            return Incoming(path, _digest(path) + suffix)
        except BaseException as error:
            path.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise UserError(
                    f"{name} cannot be copied ({error.strerror or error}). Check it and try again."
                ) from error
            raise

    def _pack(self, source: Path, limits: JobLimits, file: IO[bytes], wanted: Wanted | None) -> None:
        images: ImageCollection
        table = ""
        if wanted is None:
            images = load_photos(source, limits.data())
            names = [f"photos/{i:06}{_ending(name)}" for i, name in enumerate(images.names)]
        else:
            images = load_data(source, limits.data(), **asdict(wanted))
            names = list(images.names)
            classes = [images.class_names[label] for label in images.labels]
            folders = [tidy_name(name.split("/")[0]) if "/" in name else None for name in names]
            if folders != classes:  # labels of a table, or of rows
                names = [f"images/{i:06}{_ending(name)}" for i, name in enumerate(names)]
                table = _table(names, classes)
        size = 0
        with zipfile.ZipFile(file, "w") as archive:
            for i, name in enumerate(names):
                content = images.read(i)
                size += len(content)
                limits.check_bytes(size, source.name)
                archive.writestr(zipfile.ZipInfo(name, _FIXED_TIME), content)
            if table:
                archive.writestr(zipfile.ZipInfo("labels.csv", _FIXED_TIME), table)

    def place(self, incoming: Incoming) -> None:
        """Gives a copied data set its name; to be called within a transaction of the registry that adds its job."""
        if (self.datasets / incoming.name).exists():
            incoming.path.unlink(missing_ok=True)
        else:
            os.replace(incoming.path, self.datasets / incoming.name)

    def dataset(self, name: str) -> Path:
        """The copy of a data set. Raises UserError where it is gone."""
        path = self.datasets / name
        if not path.is_file():
            raise UserError("The job's copy of its data set is gone. Give the data set again as a new job.")
        return path

    def open(self, name: str, called: str, limits: JobLimits) -> LabelledImages:
        """The images of a copied data set. Raises UserError, with its owner's name for it, where it cannot be used."""
        path = self.dataset(name)
        with calling(path, called):
            return load_data(path, limits.data(), guess=TRAINING_SPLIT.guess)

    def open_photos(self, name: str, called: str, limits: JobLimits) -> ImageList:
        """The same for photos of which no class is needed."""
        path = self.dataset(name)
        with calling(path, called):
            return load_photos(path, limits.data())

    # -- cleaning -----------------------------------------------------------------------------------------------------

    def clear(self, job_id: str, keep: Collection[str] = ()) -> None:
        """Removes a job's folder, or all in it but the files to keep."""
        if not keep:
            shutil.rmtree(self.folder(job_id), ignore_errors=True)
            return
        for path in self.folder(job_id).glob("*"):
            if path.name not in keep:
                path.unlink(missing_ok=True)

    def clear_cache(self) -> None:
        """Forgets all cached features."""
        for path in self.cache.iterdir():
            self.drop(path)

    def drop(self, path: Path) -> None:
        """Removes a file or a folder, if it is there."""
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

    def strays(self, job_ids: Collection[str], datasets: Collection[str], *, aged: bool = True) -> list[Path]:
        """Files and folders that belong to no job: left by a kill at a bad moment.

        Args:
            aged: whether data sets count that were on their way in an hour ago, by the clock.
        """
        strays = [path for path in self.jobs.iterdir() if path.name not in job_ids]
        for path in self.datasets.iterdir():
            if path.name.startswith("."):
                if aged and time.time() - _modified(path) > _ABANDONED_SECONDS:  # younger ones may be on their way in
                    strays.append(path)
            elif path.name not in datasets:
                strays.append(path)
        return strays

    def size(self) -> int:
        """Bytes that jobs, data sets and cached features take."""
        return sum(path.stat().st_size for part in (self.jobs, self.datasets, self.cache) for path in _files(part))


@contextmanager
def calling(path: Path, name: str) -> Iterator[None]:
    """Errors about a file of ours name it as its owner does: paths of this machine are nobody's business."""
    try:
        yield
    except UserError as error:
        told = type(error)(str(error).replace(str(path), name).replace(path.name, name))
        told.__dict__.update(error.__dict__)
        raise told from error


def count_classes(data: LabelledImages) -> dict[str, int]:
    """Class name -> number of images, of those that have any."""
    counts = Counter(data.labels.tolist())
    return {name: counts[i] for i, name in enumerate(data.class_names) if counts[i]}


def _ending(name: str) -> str:
    """Of an image's file; what it is, its bytes tell."""
    return suffix(name) if is_picture(name) else ".jpg"


def _table(names: Sequence[str], classes: Sequence[str]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows([("file_name", "label"), *zip(names, classes, strict=True)])
    return text.getvalue()


def _copy(source: Path, file: IO[bytes], limits: JobLimits) -> str:
    size = 0
    with open(source, "rb") as original:
        start = original.read(4)
        original.seek(0)
        while chunk := original.read(_CHUNK):
            size += len(chunk)
            limits.check_bytes(size, source.name)
            file.write(chunk)
    return ".parquet" if start == b"PAR1" else ".zip"


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return time.time()
