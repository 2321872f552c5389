"""Many photos asked about "not" at once: files in, bars and a CSV out."""

from __future__ import annotations

from collections.abc import Callable

import gradio as gr

from lsn_app.negation import words as probe_words
from lsn_app.negation.answer import MAX_PHOTOS, NegationRequest, count_photos, open_prompts
from lsn_app.negation.plots import not_bars
from lsn_app.serving.requests import ZERO_SHOT, Problem
from lsn_app.serving.store import Store
from lsn_app.shared import words
from lsn_app.shared.components import Event, EventOptions, Inputs, Updates, UpdatesOrSkip, UploadedFiles, Values
from lsn_app.shared.messages import hidden_if_empty, message, plot_title, progress_bar
from lsn_app.shared.photo_input import file_of
from lsn_app.shared.turns import Turns
from lsn_app.shared.uploads import open_photos
from lsn_core.class_names import join_class_names
from lsn_core.prompts.written import NEGATIVE_TEMPLATE

SHARED: EventOptions = {"concurrency_id": "model", "concurrency_limit": 2, "api_visibility": "private"}
NEWEST: EventOptions = {"trigger_mode": "always_last", **SHARED}  # Gradio's default forgets what comes meanwhile
EACH: EventOptions = {"trigger_mode": "multiple", **SHARED}


class ManyPhotos:
    """The components for many photos, and the functions that events call.

    Args:
        asked: the components that decide what is asked, as `read` takes them.
        read: the request in their values.
        classes: the class list, which a zip of class folders brings along.

    Attributes:
        files: where photos or a zip are dropped.
    """

    def __init__(
        self, store: Store, asked: Inputs, read: Callable[[Values], NegationRequest], classes: gr.Textbox
    ) -> None:
        self.store, self.asked, self.read, self.classes = store, asked, read, classes
        self.turns = Turns()
        self.files = gr.File(
            label=f"Photos or a zip (at most {MAX_PHOTOS:,})",
            file_count="multiple",
            file_types=["image", ".zip"],
            height=140,
            elem_id="not-files",
        )
        self.message = message("not-message-files")
        self.counted = gr.HTML(visible=False, elem_id="not-counted")
        with gr.Row(visible=False) as self.bars:
            with gr.Column(min_width=300):
                plot_title("Written by hand: “not a photo of a …”")
                self.written = gr.Plot(show_label=False, elem_id="not-written-bars")
            with gr.Column(min_width=300, visible=False) as self.learned_column:
                plot_title("Learned: all negative prompts together")
                self.learned = gr.Plot(show_label=False, elem_id="not-learned-bars")
        self.link = gr.HTML(visible=False, elem_id="not-counts-link")

    def take_after(self, event: Callable[..., Event]) -> Event:
        """Takes the class list of uploaded files, at an event of `files`."""
        return event(self.take_files, {self.files, *self.asked}, self.classes, preprocess=False, **NEWEST)

    def count_after(self, event: Event) -> Event:
        """Counts anew after an event that changed the files or what is asked."""
        outputs = [
            self.counted,
            self.bars,
            self.written,
            self.learned,
            self.learned_column,
            self.link,
            self.message,
        ]
        inputs = {self.files, *self.asked}
        return event.then(self.count, inputs, outputs, preprocess=False, show_progress_on=self.files, **NEWEST)

    def take_files(self, values: Values) -> str | UpdatesOrSkip:
        """The class list for uploaded files: the folders of a zip, or else the one that stands there."""
        try:
            images = open_photos([file_of(item) for item in values[self.files] or ()])
        except Problem:
            return gr.skip()  # the count that follows says why
        names = list(dict.fromkeys(images.classes or ()))
        if self.read(values).detector.label != ZERO_SHOT or len(names) < 2:
            return gr.skip()
        return join_class_names(names)

    def count(
        self,
        values: Values,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> UpdatesOrSkip:
        """How often the photos choose "not", class by class."""
        question = self.turns.ask(request.session_hash, "counts")
        return question.unless_over(self._count(values, progress))

    def _count(self, values: Values, progress: gr.Progress) -> Updates:
        hidden = gr.update(visible=False)
        blank = {part: hidden for part in (self.counted, self.bars, self.link, self.message)}
        files: UploadedFiles = values[self.files]
        if not files:
            return blank
        try:
            images = open_photos([file_of(item) for item in files])
            written, learned, encoder = open_prompts(self.store, self.read(values).detector)
            counts = count_photos(encoder, written, learned, images, progress_bar(progress, "Asking the photos"))
        except Problem as problem:
            # The table, asked before, tells of the class list and the model where they stand; files are told of here.
            return {**blank, self.message: hidden_if_empty(words.problem(str(problem)))}
        by_hand = [item for item in counts.written if item.wording == NEGATIVE_TEMPLATE]
        return {
            self.counted: hidden_if_empty(probe_words.counted(counts)),
            self.bars: gr.update(visible=True),
            self.written: not_bars(by_hand),
            self.learned: not_bars(counts.learned) if counts.learned else None,
            self.learned_column: gr.update(visible=bool(counts.learned)),
            self.link: hidden_if_empty(probe_words.counts_link(counts)),
            self.message: hidden_if_empty(""),
        }
