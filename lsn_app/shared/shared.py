"""What every tab is handed when it is built, so that none has to search the page for another's components."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from lsn_app.serving.requests import ZERO_SHOT, ZERO_SHOT_TITLE
from lsn_app.serving.store import Store


@dataclass(frozen=True)
class Shared:
    """What every tab is handed when it is built.

    Attributes:
        store: backbones, detectors, training jobs.
        page: the page, for what happens when it opens and closes.
        tabs: the row of tabs, to go to another one.
        tab: the tab that is being built.
        detector: Detect's choice of a detector, which Detect draws, Train sets and Evaluate reads.
        owner: whose jobs this browser sees: a token, or None on a page without jobs.
    """

    store: Store
    page: gr.Blocks
    tabs: gr.Tabs
    tab: gr.Tab
    detector: gr.Dropdown
    owner: gr.BrowserState | gr.State


def detector_choices(
    store: Store, session: str | None = None, owner: str | None = None, names_alone: str = ZERO_SHOT_TITLE
) -> list[tuple[str, str]]:
    """Title and label of each detector to choose from: the class names alone, and what `Store.offered` gives."""
    return [(names_alone, ZERO_SHOT), *store.offered(session, owner if isinstance(owner, str) else None)]
