"""A Parquet file written row by row, in groups of rows, so that a bounded number is in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_ROWS = 4096  # of a group: what is kept in memory

WriteRow = Callable[[dict[str, Any]], None]


@contextmanager
def open_parquet_rows(path: Path, schema: Any) -> Iterator[WriteRow]:
    """A function that takes rows, as values by the names of the columns.

    Args:
        path: file to write.
        schema: a `pyarrow.Schema`, whose columns every row has.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    kept: list[dict[str, Any]] = []
    with pq.ParquetWriter(path, schema) as table:

        def flush() -> None:
            if kept:
                table.write_table(pa.Table.from_pylist(kept, schema))
                kept.clear()

        def write(row: dict[str, Any]) -> None:
            kept.append(row)
            if len(kept) >= _ROWS:
                flush()

        yield write
        flush()
