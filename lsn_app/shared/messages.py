"""Small parts that tabs share: headings, messages that hide when empty, a progress bar that is counted."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import gradio as gr

from lsn_app.serving.requests import Problem
from lsn_app.shared import words
from lsn_app.shared.components import Updates


def heading(title: str, sentence: str, elem_id: str | None = None) -> None:
    """The heading of a part of a tab, and a sentence on it."""
    gr.HTML(f'<div class="not-heading"><h2>{title}</h2><p>{sentence}</p></div>', elem_id=elem_id)


def plot_title(title: str, sentence: str = "") -> None:
    """The heading of a plot, and a sentence on it."""
    below = f"<p>{sentence}</p>" if sentence else ""
    gr.HTML(f'<div class="lsn-plot-title"><h3>{title}</h3>{below}</div>')


def said(messages: Mapping[str, gr.HTML], places: Collection[str], problem: Problem | None = None) -> Updates:
    """Updates that empty the messages at these places, and tell a problem at the one it belongs to."""
    found: Updates = {messages[place]: shown_if("") for place in places}
    if problem:
        found[messages[problem.place]] = shown_if(words.problem(str(problem)))
    return found


def shown_if(html: str) -> Any:
    """An update of HTML that hides the component where there is nothing to say."""
    return gr.update(value=html, visible=bool(html))


def counter(progress: gr.Progress, total: int, doing: str) -> Callable[[int], None]:
    """A function that moves the progress bar on by so many photos of `total`."""
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress((done, total), desc=doing, unit="photos")

    return advance
