"""What commands print: names of files and classes come from anywhere, and must neither steer a terminal nor end in a
traceback."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import typer

from lsn_core.data.printable import printable

_STEERING = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def echo(text: str, *, err: bool = False) -> None:
    """Prints lines; characters that steer a terminal, and bytes that are not UTF-8, become marks."""
    typer.echo("\n".join(map(printable, text.split("\n"))), err=err)


def echo_json(values: Mapping[str, Any]) -> None:
    """Prints one JSON object in a line, with such characters escaped: a program gets every name as it is.

    Raises:
        ValueError: a number is not finite.
    """
    text = json.dumps(values, ensure_ascii=False, allow_nan=False)
    typer.echo(_STEERING.sub(lambda match: f"\\u{ord(match[0]):04x}", text))
