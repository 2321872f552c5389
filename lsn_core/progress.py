"""Progress with rate and time left: a bar on a terminal, and elsewhere, as in a log, a line now and then."""

from __future__ import annotations

import sys
from typing import Any, TextIO

from tqdm import tqdm

EVERY = 10.0
"""Seconds from one line to the next."""
_LINE = "{desc}: {n_fmt} of {total_fmt} {unit}s, {rate_fmt}, {remaining} left"


def progress_bar(
    title: str, unit: str, total: int | None = None, *, shown: bool = True, delay: float = 0.0
) -> tqdm[Any]:
    """A bar on standard error, or lines where that is no terminal: one each `EVERY` seconds, and one at the end.

    Args:
        title: what is done.
        unit: of what, in the singular.
        total: how many there are; None where that is found out later.
        shown: False for silence.
        delay: seconds before it is shown; what is done by then is not worth it.
    """
    if not shown or sys.stderr.isatty():
        return tqdm(desc=title, unit=unit, total=total, disable=not shown, delay=delay)
    how: dict[str, Any] = {"file": _Lines(sys.stderr), "mininterval": EVERY, "miniters": 1, "bar_format": _LINE}
    return _Log(desc=title, unit=unit, total=total, delay=delay, **how)


class _Log(tqdm):
    """A bar that has nothing to say before anything is done."""

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        return bool(super().display(msg, pos)) if self.n else False


class _Lines:
    """A stream on which a bar's states become lines."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        if state := text.strip():
            self._stream.write(f"{state}\n")

    def flush(self) -> None:
        self._stream.flush()
