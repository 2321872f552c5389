"""Labels of rows: columns of whole numbers, texts or booleans become class names and indices."""

from __future__ import annotations

import json
import logging
from typing import Any

import numpy as np
import pyarrow as pa

from lsn_core.data.parquet_columns import Chosen, is_text
from lsn_core.data.sources import DataError

logger = logging.getLogger(__name__)

_LONGEST_NAME = 4096
_MOST_CLASSES = 100_000


def declared_names(schema: pa.Schema, label: str, where: str) -> list[str]:
    """The class names in the Hugging Face metadata of a schema; none where there are none for this column.

    Raises:
        DataError: there are too many, or one is too long.
    """
    try:
        metadata: Any = json.loads((schema.metadata or {})[b"huggingface"])
        names = metadata["info"]["features"][label]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return []
    if len(names) > _MOST_CLASSES:
        raise DataError(f"{where}: it declares {len(names):,} classes, more than {_MOST_CLASSES:,}.")
    return [_short(name) for name in names]


def read_labels(table: pa.Table, columns: Chosen, declared: list[str], where: str) -> tuple[list[str], np.ndarray]:
    """Class names, shape (C,), and the class of each row, int64, shape (N,).

    Args:
        table: the columns of labels and, where there is one, of their names.
        declared: names of whole numbers from 0, where they are known.
        where: what to call the table in messages.

    Raises:
        DataError: a row has no label, or one that is no whole number, text or boolean, or has no name.
    """
    name = str(columns.label)
    column = table[name]
    if column.null_count:
        row = column.is_null().to_pylist().index(True)
        raise DataError(f"{where}: row {row} has no label. Give it one or remove the row.")
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if is_text(kind):
        values, labels = _values(column)
        texts, order = np.unique(np.array([_short(value) for value in values], dtype=object), return_inverse=True)
        return list(texts), order[labels].astype(np.int64)
    if pa.types.is_boolean(kind):
        column = column.cast(pa.int8())
    elif pa.types.is_floating(kind):
        column = _whole(column, where)
    labels = np.array(column.to_pylist(), dtype=np.int64)
    if declared:
        bad = np.flatnonzero((labels < 0) | (labels >= len(declared)))
        if bad.size:
            label = labels[bad[0]]
            raise DataError(f"{where}: row {bad[0]} has label {label}, but there are {len(declared)} classes.")
        return declared, labels
    ids, compact = np.unique(labels, return_inverse=True)
    if columns.names is not None:
        return _named(labels, table[columns.names], where), compact.astype(np.int64)
    if pa.types.is_boolean(kind):
        return [f"{name} {'true' if label else 'false'}" for label in ids], compact.astype(np.int64)
    logger.warning("%s: its classes have no names, so they are called by their numbers.", where)
    return [f"class {label}" for label in ids], compact.astype(np.int64)


def _named(labels: np.ndarray, column: pa.ChunkedArray, where: str) -> list[str]:
    """The name of each different label, in their order."""
    values, named = _values(column)
    names: dict[int, str] = {}
    for row, (label, index) in enumerate(zip(labels.tolist(), named.tolist(), strict=True)):
        text = values[index] if index >= 0 else None
        if text is None or names.setdefault(label, text) != text:
            raise DataError(f"{where}: row {row} has label {label} and name {text!r}, unlike the rows before it.")
    return [_short(names[label]) for label in sorted(names)]


def _whole(column: pa.ChunkedArray, where: str) -> pa.ChunkedArray:
    values = column.to_numpy()
    bad = np.flatnonzero(~np.isfinite(values) | (values != np.floor(values)) | (np.abs(values) > 2**31))
    if bad.size:
        raise DataError(
            f"{where}: row {bad[0]} has the label {values[bad[0]]}; labels must be whole numbers or text. Correct "
            "it, or name another column (--label-column)."
        )
    return pa.chunked_array([values.astype(np.int64)])


def _values(column: pa.ChunkedArray) -> tuple[list[str], np.ndarray]:
    """The different texts of a column, and which of them each row has; -1 where it has none."""
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    array = column.unify_dictionaries().combine_chunks()
    array = array.chunk(0) if isinstance(array, pa.ChunkedArray) else array
    return array.dictionary.to_pylist(), array.indices.fill_null(-1).to_numpy(zero_copy_only=False)


def _short(name: str) -> str:
    if len(name) > _LONGEST_NAME:
        raise DataError(f"A class has a name of {len(name):,} letters ({name[:40]!r}...). Shorten it.")
    return name
