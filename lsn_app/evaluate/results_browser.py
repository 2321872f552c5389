"""The committed benchmark results, to browse: a table, its picture, and what made it."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Literal

import gradio as gr
from PIL import Image

from lsn_app.shared import words
from lsn_app.shared.components import Updates
from lsn_core import UserError
from lsn_core.data.images import open_image
from lsn_core.shipped import RESULTS_DIR

log = logging.getLogger(__name__)

_MADE_BY = ("command", "seed", "backbone", "weights_hash", "versions", "python", "cpu", "cores", "gpu", "seconds")
_DIGITS = 4
_HEADLINE = "Table 3"


@dataclass(frozen=True)
class ResultTable:
    """A table of results.

    Attributes:
        title: what it is called.
        header, rows: the table.
        facts: what made it, and what else its file says in few words.
        picture: file of its picture, or None.
        titled: whether its file says the title; those come first.
    """

    title: str
    header: list[str]
    rows: list[list[object]]
    facts: dict[str, str]
    picture: Path | None = None
    titled: bool = False


def load_results(folder: Path = RESULTS_DIR) -> list[ResultTable]:
    """All tables in a folder of results: NAME.csv with NAME.json and NAME.png beside it, or lists within NAME.json.

    NAME_details.csv, with the single measurements, and a file that cannot be read are left out. Empty where there is no
    such folder.
    """
    tables: list[ResultTable] = []
    for stem in sorted(
        {
            path.stem
            for path in folder.glob("*")
            if path.suffix in (".csv", ".json") and not path.stem.endswith("_details")
        }
    ):
        try:
            tables += _load(folder, stem)
        except (OSError, ValueError, csv.Error) as error:
            log.warning("results/%s cannot be shown: %s", stem, error)
    return sorted(tables, key=lambda table: (not table.titled, not table.title.startswith(_HEADLINE), table.title))


class BenchmarkBrowser:
    """The components that show one table at a time; without results, a note."""

    def __init__(self, folder: Path = RESULTS_DIR) -> None:
        # What has no title is of use to who works on the project, not to a visitor.
        self.tables = [table for table in load_results(folder) if table.titled]
        if not self.tables:
            gr.HTML(words.note("The results come with the repository; they are not part of the installed package."))
            return
        first, choices = self.tables[0], [(table.title, index) for index, table in enumerate(self.tables)]
        self.choice = gr.Dropdown(choices, value=0, label="Result", elem_id="eval-benchmark")
        self.picture = gr.Image(
            _picture(first),
            visible=first.picture is not None,
            show_label=False,
            interactive=False,
            buttons=["fullscreen"],
            elem_id="eval-benchmark-picture",
        )
        gr.HTML(words.note("A column's menu (⋮) sorts the table."))
        self.table = gr.Dataframe(
            _cells(first),
            headers=first.header,
            datatype=_kinds(first),
            interactive=False,
            max_height=480,
            show_label=False,
            elem_id="eval-benchmark-table",
            buttons=["fullscreen"],
        )
        self.facts = gr.HTML(facts_list(first), elem_id="eval-benchmark-facts")
        self.choice.input(
            self.show,
            self.choice,
            [self.table, self.picture, self.facts],
            show_progress="hidden",
            api_visibility="private",
        )

    def show(self, index: int) -> Updates:
        """Another table."""
        table = self.tables[index]
        return {
            self.table: gr.update(value=_cells(table), headers=table.header, datatype=_kinds(table)),
            self.picture: gr.update(value=_picture(table), visible=table.picture is not None),
            self.facts: facts_list(table),
        }


def facts_list(table: ResultTable) -> str:
    """What made a table, as HTML; commands and hashes in a font of their own."""
    items = "".join(
        f"<dt>{escape(name)}</dt><dd><code>{escape(value)}</code></dd>" for name, value in table.facts.items()
    )
    return f'<dl class="eval-facts">{items}</dl>'


def _load(folder: Path, stem: str) -> list[ResultTable]:
    about: dict[str, object] = {}
    if (folder / f"{stem}.json").is_file():
        content = json.loads((folder / f"{stem}.json").read_text(encoding="utf-8"))
        about = content if isinstance(content, dict) else {"rows": content}
    picture = folder / f"{stem}.png"
    titled = bool(about.get("title"))
    title = str(about.get("title") or stem.replace("_", " ").capitalize())
    facts = _facts(about)
    existing = picture if picture.is_file() else None
    if (folder / f"{stem}.csv").is_file():
        with (folder / f"{stem}.csv").open(newline="", encoding="utf-8-sig") as file:
            header, *rows = list(csv.reader(file)) or [[]]
        return [ResultTable(title, header, [[_number(cell) for cell in row] for row in rows], facts, existing, titled)]
    lists = _lists(about)
    if not lists:
        return [ResultTable(title, ["what", "value"], [list(item) for item in facts.items()], {}, existing, titled)]
    return [
        ResultTable(
            title if name == "rows" or len(lists) == 1 else f"{title}: {name.replace('_', ' ')}",
            *_table(rows),
            facts,
            existing,
            titled,
        )
        for name, rows in lists.items()
    ]


def _lists(about: Mapping[str, object], prefix: str = "") -> dict[str, list[dict[str, object]]]:
    """Name -> rows of what is a list of objects, or an object of objects whose keys then are a column."""
    lists: dict[str, list[dict[str, object]]] = {}
    for key, value in about.items():
        name = f"{prefix}{key}"
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            lists[name] = value
        elif isinstance(value, dict) and key != "versions" and value:
            if all(isinstance(item, dict) for item in value.values()):
                lists[name] = [{"name": inner, **item} for inner, item in value.items()]
            else:
                lists |= _lists(value, f"{name}: ")
    return lists


def _table(rows: Sequence[Mapping[str, object]]) -> tuple[list[str], list[list[object]]]:
    header = list(dict.fromkeys(key for row in rows for key in row))
    return header, [[_plain(row.get(key)) for key in header] for row in rows]


def _facts(about: Mapping[str, object]) -> dict[str, str]:
    order = [key for key in _MADE_BY if key in about]
    order += [key for key, value in about.items() if key not in order and key not in ("title", "rows")]
    facts = {}
    for key in order:
        value = about[key]
        if isinstance(value, dict) and value and not any(isinstance(part, dict | list) for part in value.values()):
            facts[key.replace("_", " ")] = ", ".join(f"{name} {_plain(part)}" for name, part in value.items())
        elif isinstance(value, str | int | float) or (
            isinstance(value, list) and not any(isinstance(part, dict) for part in value)
        ):
            facts[key.replace("_", " ")] = str(_plain(value))
    return facts


def _plain(value: object) -> object:
    if isinstance(value, list):
        return ", ".join(f"{item:.{_DIGITS}g}" if isinstance(item, float) else str(item) for item in value)
    return json.dumps(value) if isinstance(value, dict) else value


def _number(text: str) -> object:
    try:
        return float(text) if "." in text or "e" in text.lower() else int(text)
    except ValueError:
        return text


def _cells(table: ResultTable) -> list[list[object]]:
    # Fewer digits are easier to compare; a column is still sorted as numbers.
    return [
        [round(cell, _DIGITS) if isinstance(cell, float) else "" if cell is None else cell for cell in row]
        for row in table.rows
    ]


def _kinds(table: ResultTable) -> list[Literal["str", "number"]]:
    columns = [
        [row[i] for row in table.rows if i < len(row) and row[i] not in ("", None)] for i in range(len(table.header))
    ]
    return ["number" if column and all(type(cell) in (int, float) for cell in column) else "str" for column in columns]


def _picture(table: ResultTable) -> Image.Image | None:
    if table.picture is None:
        return None
    try:
        return open_image(table.picture, name=table.picture.name)
    except UserError as error:
        log.warning("%s", error)
        return None
