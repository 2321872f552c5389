"""What every tab is handed when it is built, so that none has to search the page for another's components."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import gradio as gr

from lsn_app.serving.requests import ZERO_SHOT, ZERO_SHOT_TITLE
from lsn_app.serving.store import Store
from lsn_app.shared.components import Updates
from lsn_core.class_names import join_class_names


@dataclass(frozen=True)
class Shared:
    """What every tab is handed when it is built.

    Attributes:
        store: backbones, detectors, training jobs.
        page: the page, for what happens when it opens and closes.
        tabs: the row of tabs, to go to another one.
        tab: the tab that is being built.
        detector, classes: Detect's choice of a detector and its class list, which Detect draws and other tabs set.
        owner: whose jobs this browser sees: a token, or None on a page without jobs.
    """

    store: Store
    page: gr.Blocks
    tabs: gr.Tabs
    tab: gr.Tab
    detector: gr.Dropdown
    classes: gr.Textbox
    owner: gr.BrowserState | gr.State

    def names_alone_in_detect(self, class_names: Sequence[str]) -> Updates:
        """Goes to Detect, to ask there by the names of these classes alone, in hand-written prompts."""
        return {
            self.classes: join_class_names(class_names),
            self.detector: ZERO_SHOT,
            self.tabs: gr.update(selected="detect"),
        }


def detector_choices(
    store: Store, session: str | None = None, owner: str | None = None, names_alone: str = ZERO_SHOT_TITLE
) -> list[tuple[str, str]]:
    """Title and label of each detector to choose from: the class names alone, and what `Store.offered` gives."""
    return [(names_alone, ZERO_SHOT), *store.offered(session, owner if isinstance(owner, str) else None)]
