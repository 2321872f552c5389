"""A job's record as a row of the table `jobs`."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict, fields
from typing import Any

from lsn_core.jobs.job import Job

_NAMES = tuple(item.name for item in fields(Job))
_JSON = ("classes", "config", "metrics")
_FLAGS = ("stop_requested", "resumed")

COLUMNS = ", ".join(_NAMES)
"""The columns of a record, by name: the table's own order is that of its migrations."""
INSERT = f"INSERT INTO jobs ({COLUMNS}) VALUES ({', '.join(f':{name}' for name in _NAMES)})"


def to_row(job: Job) -> dict[str, Any]:
    """The values for `INSERT`."""
    return {name: json.dumps(value) if name in _JSON else value for name, value in asdict(job).items()}


def from_row(row: sqlite3.Row) -> Job:
    """The record in a row of `COLUMNS`."""
    values = {name: row[name] for name in _NAMES}
    values |= {name: json.loads(values[name]) for name in _JSON}
    return Job(**values | {name: bool(values[name]) for name in _FLAGS})
