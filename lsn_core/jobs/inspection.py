"""What a data set holds, read before a job is made of it: classes, their images, and which images cannot be read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lsn_core.data.collection import unreadable
from lsn_core.data.labelled import load_data
from lsn_core.errors import UserError
from lsn_core.jobs.limits import JobLimits
from lsn_core.jobs.storage.files import TRAINING_SPLIT, calling, count_classes


@dataclass(frozen=True)
class Inspection:
    """What a data set holds.

    Attributes:
        classes: class name -> number of images.
        checked: how many images were opened.
        unreadable: what is wrong with those of them that cannot be read, as sentences.
        splits: names of the splits that can be taken, where there are several.
        split: the one that is taken.
        notes: what was guessed and left out, as sentences.
    """

    classes: dict[str, int]
    checked: int
    unreadable: list[str]
    splits: tuple[str, ...] = ()
    split: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def images(self) -> int:
        """Number of images."""
        return sum(self.classes.values())


def inspect(path: Path, name: str, limits: JobLimits, most: int = 200, split: str | None = None) -> Inspection:
    """Lists the classes of a data set and opens some of its images, evenly spread.

    Args:
        name: what to call it in messages.
        limits: what a job may take.
        most: images to open at most.
        split: which to take; None for the training split, where there are several.

    Raises:
        UserError: it cannot be used, or is more than a job may take.
    """
    with calling(path, name):
        if path.is_file():
            limits.check_bytes(path.stat().st_size, name)
        data = load_data(path, limits.data(), split=split, guess=TRAINING_SPLIT.guess)
        classes = count_classes(data)
        limits.check_data(classes)
        if len(classes) < 2:
            raise UserError(f"{name} has one class ({next(iter(classes))}); at least two are needed to tell apart.")
        problems = unreadable(data, most)
        return Inspection(classes, min(most, len(data)), problems, data.splits, data.split, data.notes)
