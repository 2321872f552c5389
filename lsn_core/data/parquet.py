"""Labelled images in a Parquet file."""

import json
import logging
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lsn_core.data.sources import DataError, DataLimits, bounded, too_many
from lsn_core.errors import UserError

logger = logging.getLogger(__name__)


_ROW_GROUPS_KEPT_BYTES = 256 * 2**20


class ParquetSource:
    """The rows of a Parquet file: labels in memory, image bytes read by row group and the recent groups kept.

    Attributes:
        class_names: class names as the file has them, shape (C,).
        labels: int64, shape (N,), in [0, C).
        names: what to call each image, shape (N,).
    """

    def __init__(self, path: Path, limits: DataLimits) -> None:
        self.limits, self._path = limits, path
        self._lock = threading.Lock()  # a ParquetFile is not safe to share between threads
        self._groups: OrderedDict[int, pa.ChunkedArray] = OrderedDict()
        try:
            self._file = pq.ParquetFile(path)
            self._check_schema()
            columns = [name for name in ("label", "label_name", "image.path") if self._has(name)]
            table = self._file.read(columns=columns)
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            if isinstance(error, UserError):
                raise
            raise DataError(f"{path}: the Parquet file is damaged ({error}). Write it again.") from error
        self.class_names, self.labels = self._read_labels(table)
        paths = table["image"].to_pylist() if "image" in table.column_names else [None] * table.num_rows
        self.names = [_shown_path(row and row["path"], f"{path.name} row {i}") for i, row in enumerate(paths)]
        counts = [self._file.metadata.row_group(i).num_rows for i in range(self._file.num_row_groups)]
        self._starts = np.concatenate(([0], np.cumsum(counts)))

    def _has(self, name: str) -> bool:
        top, _, inner = name.partition(".")
        schema = self._file.schema_arrow
        if schema.get_field_index(top) < 0:
            return False
        kind = schema.field(top).type
        return not inner or (pa.types.is_struct(kind) and kind.get_field_index(inner) >= 0)

    def _check_schema(self) -> None:
        metadata, schema = self._file.metadata, self._file.schema_arrow
        if not (self._has("image") and self._has("label")):
            raise DataError(f"{self._path}: columns `image` and `label` are needed; it has {', '.join(schema.names)}.")
        kind = schema.field("image").type
        kind = kind.field("bytes").type if self._has("image.bytes") else kind
        if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
            raise DataError(f"{self._path}: the column `image` holds {kind}; it must hold the bytes of image files.")
        if metadata.num_rows == 0:
            raise DataError(f"{self._path}: it has no rows. Write it again with images.")
        if metadata.num_rows > self.limits.max_entries:
            raise too_many(self._path, self.limits)
        groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
        chunks = [group.column(i) for group in groups for i in range(group.num_columns)]
        if sum(chunk.total_uncompressed_size for chunk in chunks) > self.limits.max_total_bytes:
            limit = f"{self.limits.max_total_bytes / 2**30:.3g} GiB"
            raise DataError(f"{self._path}: it unpacks to more than {limit}. Use fewer images, or raise the limit.")

    def _read_labels(self, table: pa.Table) -> tuple[list[str], np.ndarray]:
        column = table["label"]
        if column.null_count:
            row = column.is_null().to_pylist().index(True)
            raise DataError(f"{self._path}: row {row} has no label. Give it one or remove the row.")
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            texts, labels = np.unique(np.array(column.to_pylist(), dtype=object), return_inverse=True)
            return list(texts), labels.astype(np.int64)
        if not pa.types.is_integer(kind):
            raise DataError(f"{self._path}: the column `label` holds {kind}; it must hold whole numbers or text.")
        labels = np.array(column.to_pylist(), dtype=np.int64)
        declared = self._declared_names()
        if declared:
            bad = np.flatnonzero((labels < 0) | (labels >= len(declared)))
            if bad.size:
                label = labels[bad[0]]
                raise DataError(f"{self._path}: row {bad[0]} has label {label}, but there are {len(declared)} classes.")
            return declared, labels
        ids, compact = np.unique(labels, return_inverse=True)
        if "label_name" not in table.column_names:
            logger.warning("%s: its classes have no names, so they are called by their numbers.", self._path)
            return [f"class {label}" for label in ids], compact.astype(np.int64)
        names: dict[int, str] = {}
        for row, (label, name) in enumerate(zip(labels.tolist(), table["label_name"].to_pylist(), strict=True)):
            if not isinstance(name, str) or names.setdefault(label, name) != name:
                raise DataError(
                    f"{self._path}: row {row} has label {label} and name {name!r}, unlike the rows before it."
                )
        return [names[label] for label in ids.tolist()], compact.astype(np.int64)

    def _declared_names(self) -> list[str]:
        try:
            metadata: Any = json.loads((self._file.schema_arrow.metadata or {})[b"huggingface"])
            names = metadata["info"]["features"]["label"]["names"]
        except (KeyError, TypeError, ValueError):
            return []
        return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else []

    def read(self, position: int) -> bytes:
        """The bytes of the image in this row. Raises UserError when they cannot be had."""
        group = int(np.searchsorted(self._starts, position, side="right")) - 1
        name = self.names[position]
        try:
            with self._lock:
                value = self._group(group)[position - int(self._starts[group])].as_py()
        except (pa.ArrowException, OSError, ValueError, IndexError) as error:
            raise DataError(f"{name}: damaged in {self._path.name} ({error}). Write the file again.") from error
        data = value.get("bytes") if isinstance(value, dict) else value
        if data is None:
            raise DataError(f"{name}: row {position} of {self._path.name} has no image bytes. Remove the row.")
        return bounded(data, name, self.limits)

    def _group(self, group: int) -> pa.ChunkedArray:
        if group not in self._groups:
            columns = ["image.bytes"] if self._has("image.bytes") else ["image"]
            self._groups[group] = self._file.read_row_group(group, columns=columns)["image"]
            while len(self._groups) > 1 and sum(c.nbytes for c in self._groups.values()) > _ROW_GROUPS_KEPT_BYTES:
                self._groups.popitem(last=False)
        self._groups.move_to_end(group)
        return self._groups[group]


def _shown_path(path: str | None, otherwise: str) -> str:
    parts = [part for part in (path or "").replace("\\", "/").split("/") if part not in ("", ".", "..")]
    absolute = (path or "").startswith(("/", "\\")) or (path or "")[1:2] == ":"
    return "/".join(parts[-1:] if absolute else parts) or otherwise
