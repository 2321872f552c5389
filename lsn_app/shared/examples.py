"""The example photos that ship with the project, each with its author, licence and original page."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from html import escape
from pathlib import Path

from PIL import Image, ImageOps

from lsn_core.shipped import EXAMPLES_DIR

_FILE = "ATTRIBUTION.csv"
_THUMBNAIL = (120, 90)  # pixels


@dataclass(frozen=True)
class Example:
    """One example photo.

    Attributes:
        path: the file.
        label: what it shows, in a word or two.
        author, licence, licence_url, original_page: what its licence asks to be named.
        changes: what was done to the original.
    """

    path: Path
    label: str
    author: str
    licence: str
    licence_url: str
    original_page: str
    changes: str

    @cached_property
    def thumbnail(self) -> str:
        """A small picture of it as a data link."""
        with Image.open(self.path) as photo:
            small = ImageOps.fit(photo.convert("RGB"), _THUMBNAIL)
        file = io.BytesIO()
        small.save(file, "JPEG", quality=75)
        return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"

    def credit(self) -> str:
        """The attribution as HTML: author with the original page, licence with its text, changes."""
        return (
            f"“{escape(self.label)}” by {_link(self.original_page, self.author)}, "
            f"{_link(self.licence_url, self.licence)} ({escape(self.changes)})"
        )


@cache
def load_examples(folder: Path = EXAMPLES_DIR) -> tuple[Example, ...]:
    """The examples listed in the folder's attribution table; a file without an entry, or the reverse, is left out."""
    table = folder / _FILE
    if not table.is_file():
        return ()
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return tuple(
        Example(
            path=folder / row["file"],
            label=Path(row["file"]).stem.replace("_", " "),
            author=row["author"],
            licence=row["licence"],
            licence_url=row["licence_url"],
            original_page=row["original_page"],
            changes=row["changes"],
        )
        for row in rows
        if (folder / row["file"]).is_file()
    )


def strip(examples: Sequence[Example]) -> str:
    """All examples as a row of buttons, as HTML."""
    buttons = "".join(
        f'<button type="button" title="{escape(example.label)}" tabindex="{-1 if index else 0}">'
        f'<img alt="" src="{example.thumbnail}">'
        f"<span>{escape(example.label)}</span></button>"
        for index, example in enumerate(examples)
    )
    return f'<div class="lsn-strip" role="group" aria-label="Example photos">{buttons}</div>'


def credits_list(examples: Sequence[Example]) -> str:
    """All attributions as one foldable HTML list."""
    items = "".join(f"<li>{example.credit()}</li>" for example in examples)
    summary = "<summary>Who took these photos, and their licences</summary>"
    return f'<details class="lsn-credits">{summary}<ul>{items}</ul></details>'


def _link(url: str, text: str) -> str:
    return f'<a href="{escape(url)}" target="_blank" rel="noopener">{escape(text)}</a>'
