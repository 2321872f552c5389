"""One JSON file for each cell: what was measured, how and on what; and whether a file that is there can be trusted."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.harness.measure import Row
from benchmarks.paper.cells import Cell
from lsn_core.atomic import write_bytes

SCHEMA = 1
MEASURED, FAILED = "measured", "failed"
_DIGEST = "digest"


def path_of(out: Path, cell: Cell) -> Path:
    """Where a cell's file lies."""
    return out / "cells" / f"{cell.name}.json"


def write_record(out: Path, cell: Cell, values: Row) -> None:
    """Writes a cell's file, whole or not at all, with a digest of what it holds."""
    record = {"schema": SCHEMA, "cell": asdict(cell), **values}
    record[_DIGEST] = fingerprint(record)
    path = path_of(out, cell)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode())


def read_record(path: Path) -> Row | None:
    """What a file holds; None where it is not there, damaged, or of another schema."""
    try:
        record: Row = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    digest = record.pop(_DIGEST, None) if isinstance(record, dict) else None
    if digest is None:
        return None
    return record if record.get("schema") == SCHEMA and digest == fingerprint(record) else None


def is_done(out: Path, cell: Cell, wanted: str) -> bool:
    """Whether the cell was measured on the same images with the same settings, weights and release (`wanted`)."""
    record = read_record(path_of(out, cell))
    return bool(record and record["status"] == MEASURED and record["fingerprint"] == wanted)


def read_status(out: Path, cell: Cell) -> str | None:
    """`MEASURED` or `FAILED`; None without a file that can be trusted."""
    record = read_record(path_of(out, cell))
    return record["status"] if record else None


def read_all(out: Path) -> list[Row]:
    """All cells of a folder that can be trusted, by name."""
    found = (read_record(path) for path in sorted((out / "cells").glob("*.json")))
    return [record for record in found if record is not None]


def fingerprint(value: Any) -> str:
    """SHA-256 (hex) of plain values, whatever the order of their keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()  # names of files may be no UTF-8
