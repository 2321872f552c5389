"""Tables as CSV files that spreadsheets open without harm, made in the page itself."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Iterable, Sequence
from html import escape

from lsn_core.verdicts import safe_cell


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A CSV table with a header line; None becomes an empty cell."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([[safe_cell(value) for value in row] for row in rows])
    return file.getvalue()


def download_link(text: str, file_name: str, label: str) -> str:
    """A link that saves the text as a file; the text travels in the link, so that no file is kept on the server."""
    # The byte order mark tells spreadsheets that it is UTF-8.
    data = base64.b64encode(text.encode("utf-8-sig")).decode()
    return (
        f'<a class="lsn-download" download="{escape(file_name)}" href="data:text/csv;charset=utf-8;base64,{data}">'
        f"{escape(label)}</a>"
    )
