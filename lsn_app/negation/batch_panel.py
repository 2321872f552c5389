"""Many photos asked about "not" at once: files in, bars and a CSV out."""

from __future__ import annotations

import re

import gradio as gr
from gradio.blocks import Block

from lsn_app.negation import words as probe_words
from lsn_app.negation.answer import MAX_PHOTOS, count_photos, open_prompts
from lsn_app.negation.plots import not_bars
from lsn_app.serving.requests import ZERO_SHOT, Problem
from lsn_app.serving.store import Store
from lsn_app.shared import words
from lsn_app.shared.components import EventOptions, Updates, UpdatesOrSkip, UploadedFiles
from lsn_app.shared.messages import counter, plot_title, shown_if
from lsn_app.shared.photo_input import file_of
from lsn_app.shared.uploads import find_photos
from lsn_core.prompts.written import NEGATIVE_TEMPLATE

SHARED: EventOptions = {"concurrency_id": "model", "concurrency_limit": 2, "api_visibility": "private"}


class ManyPhotos:
    """The components for many photos, and the functions that events call.

    Attributes:
        files: where photos or a zip are dropped.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.files = gr.File(
            label=f"Photos, or one zip of class folders (cat/1.jpg, dog/1.jpg, …); at most {MAX_PHOTOS:,} photos",
            file_count="multiple",
            file_types=["image", ".zip"],
            height=140,
            elem_id="not-files",
        )
        self.message = gr.HTML(visible=False, elem_id="not-message-files")
        self.counted = gr.HTML(visible=False, elem_id="not-counted")
        with gr.Row(visible=False) as self.bars:
            with gr.Column(min_width=300):
                plot_title("Written by hand: “not a photo of a …”")
                self.written = gr.Plot(show_label=False, elem_id="not-written-bars")
            with gr.Column(min_width=300, visible=False) as self.learned_column:
                plot_title("Learned: all negative prompts together")
                self.learned = gr.Plot(show_label=False, elem_id="not-learned-bars")
        self.link = gr.HTML(visible=False, elem_id="not-counts-link")

    def counting(self, classes: Block, detector: Block, backbone: Block) -> EventOptions:
        """Arguments of an event that counts, with the components that say what is asked."""
        outputs = [
            self.counted,
            self.bars,
            self.written,
            self.learned,
            self.learned_column,
            self.link,
            self.message,
        ]
        inputs = [self.files, classes, detector, backbone]
        return {
            "fn": self.count,
            "inputs": inputs,
            "outputs": outputs,
            "preprocess": False,
            "show_progress_on": self.files,
            **SHARED,
        }

    def take_files(self, payload: UploadedFiles, classes: str, label: str) -> str | UpdatesOrSkip:
        """The class list for uploaded files: the folders of a zip, or else the one that stands there."""
        try:
            items = find_photos([file_of(item) for item in payload or ()])
        except Problem:
            return gr.skip()  # the count that follows says why
        names = list(dict.fromkeys(item.truth for item in items if item.truth is not None))
        if label != ZERO_SHOT or len(names) < 2 or any(re.search("[,;]", name) for name in names):
            return gr.skip()
        return ", ".join(names)

    def count(
        self,
        payload: UploadedFiles,
        classes: str,
        label: str,
        backbone: str,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Updates:
        """How often the photos choose "not", class by class."""
        hidden = gr.update(visible=False)
        blank = {part: hidden for part in (self.counted, self.bars, self.link, self.message)}
        if not payload:
            return blank
        try:
            items = find_photos([file_of(item) for item in payload])
            written, learned, encoder = open_prompts(self.store, classes, label, backbone)
            counts = count_photos(encoder, written, learned, items, counter(progress, len(items), "Asking the photos"))
        except Problem as problem:
            # The table, asked before, tells of the class list and the model where they stand; files are told of here.
            return {**blank, self.message: shown_if(words.problem(str(problem)))}
        by_hand = [item for item in counts.written if item.wording == NEGATIVE_TEMPLATE]
        return {
            self.counted: shown_if(probe_words.counted(counts)),
            self.bars: gr.update(visible=True),
            self.written: not_bars(by_hand),
            self.learned: not_bars(counts.learned) if counts.learned else None,
            self.learned_column: gr.update(visible=bool(counts.learned)),
            self.link: shown_if(probe_words.counts_link(counts)),
            self.message: shown_if(""),
        }
