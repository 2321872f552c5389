"""Several Parquet files as one set: shards such as train-00000-of-00002.parquet, and the splits that they belong to."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lsn_core.class_names import composed
from lsn_core.data.layout import Wanted
from lsn_core.data.parquet import ParquetSource
from lsn_core.data.remote import RemoteFile
from lsn_core.data.sources import DataError, DataLimits, Rows
from lsn_core.data.splits import pick_split, split_name

logger = logging.getLogger(__name__)

_SHARD = re.compile(r"(?P<split>.+?)[-_.]\d+[-_]of[-_]\d+([-_.][0-9a-f]+)?")


class ParquetShards(Rows):
    """The rows of several Parquet files, one after the other; images of one file at a time are kept.

    Args:
        files: path of each below the set's root, and where it lies.
        where: what to call the set in messages.
        limits: what to refuse, of each file.
        wanted: which split, and which columns.
        labelled: False takes all splits, without labels.
    """

    def __init__(
        self,
        files: Sequence[tuple[str, Path | RemoteFile]],
        where: str,
        limits: DataLimits,
        wanted: Wanted,
        labelled: bool,
    ) -> None:
        if labelled:
            files = self._of_split(files, where, wanted)
        self._sources = [ParquetSource(path, limits, wanted, labelled) for _, path in files]
        counts = [len(source.names) for source in self._sources]
        if sum(counts) > limits.max_entries:
            raise DataError(f"{where}: more than {limits.max_entries:,} rows. Use fewer, or raise the limit.")
        self._starts = np.concatenate(([0], np.cumsum(counts)))
        self._open = 0
        self.class_names, self.labels = self._join_labels()
        self.names = [name for source in self._sources for name in source.names]
        if len(set(self.names)) < len(self.names):  # file names that are told without their folders
            shown = zip(files, self._sources, strict=True)
            self.names = [f"{path}/{name}" for (path, _), source in shown for name in source.names]

    def _of_split(
        self, files: Sequence[tuple[str, Path | RemoteFile]], where: str, wanted: Wanted
    ) -> Sequence[tuple[str, Path | RemoteFile]]:
        splits: dict[str, list[tuple[str, Path | RemoteFile]]] = {}
        for file in files:
            splits.setdefault(_split_of(file[0]), []).append(file)
        names = sorted(splits)
        if wanted.split is None and (len(names) == 1 or not all(map(split_name, names))):
            return files
        self.splits = tuple(names)
        self.split = pick_split(where, wanted.split, wanted.guess, names, names)
        others = [f"{name} ({len(splits[name])} files)" for name in names if name != self.split]
        if others:
            self.notes = (f"The split {self.split} is taken; left out: {', '.join(others)}.",)
            logger.warning("%s: the split %s is taken; left out: %s.", where, self.split, ", ".join(others))
        return splits[self.split]

    def _join_labels(self) -> tuple[list[str], np.ndarray]:
        """Class names of all, and the labels in them: files may know different classes, or count them differently."""
        first = self._sources[0].class_names
        if all(source.class_names == first for source in self._sources):
            return first, np.concatenate([source.labels for source in self._sources])
        names = sorted({composed(name) for source in self._sources for name in source.class_names})
        index = {name: number for number, name in enumerate(names)}
        places = [np.array([index[composed(name)] for name in source.class_names]) for source in self._sources]
        labels = [place[source.labels] for place, source in zip(places, self._sources, strict=True)]
        return names, np.concatenate(labels).astype(np.int64)

    def read(self, position: int) -> bytes:
        """The bytes of the image in this row. Raises UserError when they cannot be had."""
        number = int(np.searchsorted(self._starts, position, side="right")) - 1
        if number != self._open:
            self._sources[self._open].release()
            self._open = number
        return self._sources[number].read(position - int(self._starts[number]))


def _split_of(path: str) -> str:
    """The split that a file belongs to, by its name or that of its folder."""
    folder, _, name = path.rpartition("/")
    stem = name.removesuffix(".parquet")
    if match := _SHARD.fullmatch(stem):
        return match["split"]
    if split_name(stem) is None or re.fullmatch(r"(part|shard|chunk|batch)[-_]?\d+.*", stem):
        return folder.rpartition("/")[2] if split_name(folder.rpartition("/")[2]) else ""
    return stem
