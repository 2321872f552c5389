"""Photos and verdicts that come in, with their times."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from lsn_core.data.formats import is_picture
from lsn_core.errors import UserError
from lsn_core.monitoring.windows import window_start

Line = dict[str, Any]
Thing = TypeVar("Thing")


class Inbox:
    """A folder that photos are put into, its folders too.

    Raises:
        UserError: there is no such folder.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise UserError(f"{folder} is no folder. Name one that photos come into, a .jsonl file of verdicts, or -.")
        self._folder = folder
        self._seen: set[tuple[str, int]] = set()
        self._growing: dict[str, tuple[int, int]] = {}

    def new(self, settled: bool = False) -> list[tuple[datetime, Path]]:
        """Photos that were not told before, with the times of their last change. One written anew is told again.

        Args:
            settled: tell all that are there. Otherwise a photo is told the second time that it is found with the same
                size and time, so that whoever writes it is done.
        """
        found, growing = [], {}
        for parent, _, names in os.walk(self._folder):
            for name in filter(is_picture, names):
                path = os.path.join(parent, name)
                try:
                    state = os.stat(path)
                except OSError:  # it is gone already
                    continue
                if (path, state.st_mtime_ns) in self._seen:
                    continue
                growing[path] = (state.st_mtime_ns, state.st_size)
                if settled or self._growing.get(path) == growing[path]:
                    del growing[path]
                    self._seen.add((path, state.st_mtime_ns))
                    found.append((datetime.fromtimestamp(state.st_mtime).astimezone(), Path(path)))
        self._growing = growing
        return found


def by_hours(arrivals: Iterable[tuple[datetime, Thing]], seed: int = 0) -> list[tuple[datetime, Thing]]:
    """Hour by hour, and in random order inside: files often lie sorted by what they show, and that is no change."""
    mixed = list(arrivals)
    random.Random(seed).shuffle(mixed)
    return sorted(mixed, key=lambda arrival: window_start(arrival[0], "hour"))


def read_verdicts(lines: Iterable[str], where: str) -> Iterator[tuple[int, Line]]:
    """JSON lines, numbered from 1; empty ones are left out. Raises UserError for one that is no JSON object."""
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
        except ValueError as error:
            raise UserError(
                f"{where}, line {number}: this is no JSON. Lines of `lsn score --json` are read."
            ) from error
        if not isinstance(line, dict):
            raise UserError(f"{where}, line {number}: this is no JSON object. Lines of `lsn score --json` are read.")
        yield number, line


def time_of(line: Line) -> datetime | None:
    """When a photo was taken: the line's own `time`, or else the last change of its file; None where neither is there.

    Args:
        line: `time` is in ISO 8601 or in seconds since 1970; without a zone it is local.

    Raises:
        UserError: `time` is neither.
    """
    told = line.get("time")
    try:
        if isinstance(told, str):
            return datetime.fromisoformat(told.replace("Z", "+00:00")).astimezone()
        if told is not None:
            return datetime.fromtimestamp(float(told)).astimezone()
    except (TypeError, ValueError, OverflowError, OSError) as error:
        raise UserError(f"The time {told!r} is neither ISO 8601, as in 2026-05-01T09:30:00, nor seconds.") from error
    try:
        return datetime.fromtimestamp(os.stat(str(line.get("file"))).st_mtime).astimezone()
    except (OSError, ValueError):
        return None
