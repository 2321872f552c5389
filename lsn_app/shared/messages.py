"""Small parts that tabs share: headings, messages that hide when empty, a progress bar that is counted."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import gradio as gr

from lsn_app.serving.requests import Place, Problem
from lsn_app.shared import words
from lsn_app.shared.components import Updates

Messages = Mapping[Place, gr.HTML]
"""Where mistakes are told, by the input they belong to."""


def heading(title: str, sentence: str, elem_id: str | None = None) -> None:
    """The heading of a part of a tab, and a sentence on it."""
    gr.HTML(f'<div class="not-heading"><h2>{title}</h2><p>{sentence}</p></div>', elem_id=elem_id)


def plot_title(title: str, sentence: str = "") -> None:
    """The heading of a plot, and a sentence on it."""
    below = f"<p>{sentence}</p>" if sentence else ""
    gr.HTML(f'<div class="lsn-plot-title"><h3>{title}</h3>{below}</div>')


def message(elem_id: str) -> gr.HTML:
    """A place for a mistake, hidden while there is none."""
    return gr.HTML(visible=False, elem_id=elem_id)


def tell(messages: Messages, places: Collection[Place], problem: Problem | None = None) -> Updates:
    """Updates that empty the messages at these places, and tell a problem at the one it belongs to.

    A problem of another place is told by whoever asks for it, so not here.
    """
    updates: Updates = {messages[place]: hidden_if_empty("") for place in places}
    if problem and problem.place in places:
        updates[messages[problem.place]] = hidden_if_empty(words.problem(str(problem)))
    return updates


def hidden_if_empty(html: str) -> Any:
    """An update of HTML that hides the component where there is nothing to say."""
    return gr.update(value=html, visible=bool(html))


def progress_bar(progress: gr.Progress, doing: str) -> Callable[[int, int], None]:
    """A function that shows how many photos are done, of how many."""
    return lambda done, total: progress((done, total), desc=doing, unit="photos")
