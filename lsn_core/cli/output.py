"""What commands print: names of files and classes come from anywhere, and must neither steer a terminal nor end in a
traceback."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from lsn_core.data.printable import printable
from lsn_core.errors import UserError

if TYPE_CHECKING:
    from tqdm import tqdm

FEW = 20
"""Images of whose progress there is nothing to tell."""

_STEERING = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def echo(text: str, *, err: bool = False) -> None:
    """Prints lines; characters that steer a terminal, and bytes that are not UTF-8, become marks."""
    with _told():
        typer.echo("\n".join(map(printable, text.split("\n"))), err=err)


def echo_json(values: Mapping[str, Any]) -> None:
    """Prints one JSON object in a line, with such characters escaped: a program gets every name as it is.

    Raises:
        ValueError: a number is not finite.
    """
    text = json.dumps(values, ensure_ascii=False, allow_nan=False)
    with _told():
        typer.echo(_STEERING.sub(lambda match: f"\\u{ord(match[0]):04x}", text))


def image_bar(images: int, title: str) -> tqdm[Any]:
    """Progress over so many images; none for few, which are done before it is read."""
    from lsn_core.progress import progress_bar

    return progress_bar(title, "image", images, shown=images >= FEW)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # whoever reads has gone, and wants no more
        raise
    except OSError as error:
        raise UserError(f"The output cannot be written ({error.strerror or error}). Make room for it.") from error
