"""Data sets of the package `datasets`, which is not needed here: their rows are read as what Arrow has of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lsn_core.data.images import ImageLimits, read_image_file
from lsn_core.data.layout import Wanted
from lsn_core.data.parquet_columns import choose_columns
from lsn_core.data.row_labels import declared_names, read_labels
from lsn_core.data.sources import DataError, DataLimits, Rows, bounded
from lsn_core.data.splits import pick_split

_WHERE = "the data set"


class DatasetRows(Rows):
    """The rows of a `datasets.Dataset`; images stay in its memory-mapped files until they are read.

    Args:
        data: the set, or its splits by their names.
        limits: what to refuse.
        wanted: which split and columns.
        labelled: whether labels are needed.
    """

    def __init__(self, data: Any, limits: DataLimits, wanted: Wanted, labelled: bool) -> None:
        self.limits = limits
        if isinstance(data, Mapping):
            names = [str(name) for name in data]
            self.splits = tuple(names) if len(names) > 1 else ()
            self.split = names[0] if len(names) == 1 and wanted.split is None else None
            self.split = self.split or pick_split(_WHERE, wanted.split, wanted.guess, names, names)
            data = data[self.split]
        if len(data) > limits.max_entries:
            raise DataError(f"{_WHERE}: more than {limits.max_entries:,} rows. Use fewer, or raise the limit.")
        schema = data.features.arrow_schema
        columns = choose_columns(schema, _WHERE, wanted, labelled)
        self._image = columns.image.partition(".")[0]
        self._rows = data.select_columns([self._image]).with_format("arrow")
        self.labels = np.zeros(len(data), dtype=np.int64)
        if labelled:
            table = data.select_columns(columns.texts).with_format("arrow")[:]
            names = declared_names(schema, str(columns.label), _WHERE)
            self.class_names, self.labels = read_labels(table, columns, names, _WHERE)
        self.names = [f"row {row}" for row in range(len(data))]

    def read(self, position: int) -> bytes:
        """The bytes of the image in this row. Raises UserError when they cannot be had."""
        value = self._rows[position : position + 1][self._image][0].as_py()
        name = self.names[position]
        if isinstance(value, dict):
            path = value.get("path")
            value = value.get("bytes")
            if value is None and path:
                value = read_image_file(path, name, ImageLimits(max_bytes=self.limits.max_image_bytes))
        if value is None:
            raise DataError(f"{name} of {_WHERE} has no image bytes. Remove the row.")
        return bounded(bytes(value), name, self.limits)
