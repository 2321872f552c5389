"""What a training job may take: checked before it is accepted, and while it runs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from lsn_core.data.sources import DataLimits
from lsn_core.errors import UserError

LIMITS_FILE = "limits.json"


@dataclass(frozen=True)
class JobLimits:
    """Bounds of one data directory; a file `limits.json` in it changes some of them.

    Attributes:
        queue: most jobs that wait at once, of all owners together.
        per_owner: most jobs that wait or run, of one owner.
        data_bytes: largest data set as stored, bytes.
        images: most images in a data set.
        classes: most classes in a data set.
        seconds: longest a job may work; waiting does not count, and resuming it by hand grants the time anew.
        kept_days: finished jobs older than this are deleted.
        kept_bytes: most disk space of all jobs; above it the oldest finished ones are deleted.
        free_bytes: disk space that must be left for a job to be accepted or begun.
        crashes: times in a row that a job's process may be killed without the job having moved forward; then it fails.
        losses: the same for its whole worker, which may die for reasons that are not the job's.
    """

    queue: int = 50
    per_owner: int = 5
    data_bytes: int = 2 * 2**30
    images: int = 50_000
    classes: int = 1000
    seconds: float = 4 * 3600
    kept_days: float = 30
    kept_bytes: int = 20 * 2**30
    free_bytes: int = 256 * 2**20
    crashes: int = 3
    losses: int = 10

    def __post_init__(self) -> None:
        for item in fields(self):
            value, whole = getattr(self, item.name), item.type == "int"
            fine = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
            if not (fine and 0 <= value < math.inf):
                wanted = "a whole number" if whole else "a number"
                raise UserError(f"The limit {item.name} must be {wanted} of at least 0, not {value!r}.")

    @classmethod
    def read(cls, folder: Path) -> JobLimits:
        """The defaults, changed by the folder's `limits.json` where there is one.

        Raises:
            UserError: the file is no JSON object, or names an unknown limit or a wrong value.
        """
        path = folder / LIMITS_FILE
        if not path.exists():
            return cls()
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{path} cannot be read as JSON ({str(error)[:200]}). Correct or remove it.") from error
        known = {item.name for item in fields(cls)}
        if not isinstance(values, dict) or set(values) - known:
            raise UserError(f"{path} must be a JSON object with some of these limits: {', '.join(sorted(known))}.")
        try:
            return cls(**values)
        except UserError as error:
            raise UserError(f"{path}: {error} Correct or remove it.") from error

    def data(self) -> DataLimits:
        """What `load_data` is to refuse; an archive may unpack to four times what may be stored."""
        return DataLimits(max_entries=2 * self.images + 1000, max_total_bytes=max(1, 4 * self.data_bytes))

    def check_data(self, counts: Mapping[str, int]) -> None:
        """Raises UserError where there are too many images or classes.

        Args:
            counts: class name -> number of images.
        """
        total = sum(counts.values())
        if total > self.images:
            raise UserError(f"The data set has {total:,} images; a job takes at most {self.images:,}. Give fewer.")
        if len(counts) > self.classes:
            raise UserError(f"The data set has {len(counts):,} classes; a job takes at most {self.classes:,}.")

    def check_bytes(self, size: int, name: str) -> None:
        """Raises UserError for a data set larger than `data_bytes`."""
        if size > self.data_bytes:
            raise UserError(
                f"{name} is larger than the {self.data_bytes / 2**20:,.4g} MiB that a job's data set may have. "
                "Give fewer or smaller images."
            )

    def check_room(self, free: int) -> None:
        """Raises UserError where the disk has less than `free_bytes` left."""
        if free < self.free_bytes:
            raise UserError(
                f"The disk is nearly full: {free / 2**20:,.0f} MiB are free and {self.free_bytes / 2**20:,.0f} MiB are "
                "needed. Delete old jobs or make room, then try again."
            )
