"""What a data set holds, read before a job is made of it: classes, their images, and which images cannot be read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lsn_core.data.collection import unreadable
from lsn_core.data.labelled import load_data
from lsn_core.errors import UserError
from lsn_core.jobs.limits import JobLimits
from lsn_core.jobs.storage.files import calling, count_classes


@dataclass(frozen=True)
class Inspection:
    """What a data set holds.

    Attributes:
        classes: class name -> number of images.
        checked: how many images were opened.
        unreadable: what is wrong with those of them that cannot be read, as sentences.
    """

    classes: dict[str, int]
    checked: int
    unreadable: list[str]

    @property
    def images(self) -> int:
        """Number of images."""
        return sum(self.classes.values())


def inspect(path: Path, name: str, limits: JobLimits, most: int = 200) -> Inspection:
    """Lists the classes of a data set and opens some of its images, evenly spread.

    Args:
        name: what to call it in messages.
        limits: what a job may take.
        most: images to open at most.

    Raises:
        UserError: it cannot be used, or is more than a job may take.
    """
    with calling(path, name):
        if path.is_file():
            limits.check_bytes(path.stat().st_size, name)
        data = load_data(path, limits.data())
        classes = count_classes(data)
        limits.check_data(classes)
        if len(classes) < 2:
            raise UserError(f"{name} has one class ({next(iter(classes))}); at least two are needed to tell apart.")
        return Inspection(classes, min(most, len(data)), unreadable(data, most))
