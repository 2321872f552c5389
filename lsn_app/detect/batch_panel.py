"""The Detect tab's many photos: where they are dropped, and the table of their verdicts."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.blocks import Block
from torch import Tensor

from lsn_app.detect.answer import DetectRequest
from lsn_app.detect.batch import BatchAnswer, csv_link, predict_batch, rows, summary, write_unknown
from lsn_app.detect.calibration_panel import HIGHEST, LOWEST
from lsn_app.detect.plots import batch_histogram
from lsn_app.serving.encoder import Encoder
from lsn_app.serving.lru import LRU
from lsn_app.serving.requests import Problem, open_detector, open_saved, problem_at
from lsn_app.serving.store import Store
from lsn_app.shared import words
from lsn_app.shared.components import Components, Event, EventOptions, Inputs, Updates, UpdatesOrSkip, Values
from lsn_app.shared.examples import Example
from lsn_app.shared.messages import Messages, heading, hidden_if_empty, message, progress_bar, tell
from lsn_app.shared.photo_input import file_in_folder
from lsn_app.shared.turns import Question, Turns
from lsn_app.shared.uploads import MAX_PHOTOS, Batch, open_batch
from lsn_core import UserError
from lsn_core.calibration import DEFAULT_TPR
from lsn_core.shipped import ASSETS_DIR

_TABLE = """
<fieldset class="lsn-filters"><legend>Show</legend></fieldset>
<div class="not-scroll lsn-batch-scroll" tabindex="0" role="region" aria-label="Verdicts on many photos">
<table><thead><tr></tr></thead><tbody></tbody></table><p class="lsn-none" hidden>No photo of this kind.</p></div>
<p class="lsn-note">Click a photo to see it above with its reasons, and a column's name to sort by it.</p>
"""
_SESSIONS = 256
_COUNTED = gr.Progress()  # which Gradio fills in where it is a function's default
# A slow model must not keep other visitors' single photos waiting, so batches wait for each other only.
_SHARED: EventOptions = {"concurrency_id": "batch", "concurrency_limit": 4, "api_visibility": "private"}
_EACH: EventOptions = {"trigger_mode": "multiple", **_SHARED}  # Gradio's default forgets what comes meanwhile
# After a moment, as the link is drawn anew.
_CLICK_PACKED = """() => setTimeout(() => {
    (document.querySelector("a#lsn-batch-packed, #lsn-batch-packed a") ?? document.querySelector("#lsn-batch-packed"))
        .click();
}, 300)"""
_SAVE = """(html) => {
    const place = document.createElement("div");
    place.innerHTML = html;
    place.querySelector("a").click();
}"""


def way_here(text: str) -> str:
    """A link to the panel, as HTML."""
    # A bare "#lsn-many" would load the page anew, as its base is another address once it has a query.
    go = "document.getElementById('lsn-many').scrollIntoView(); return false"
    return f'<a href="#lsn-many" onclick="{go}">{escape(text)}</a>'


class BatchPanel:
    """The components for many photos, and the functions that events call.

    Args:
        asked: what decides an answer but the photo, as `read` takes it.
        read: the request in the values of these components.
        tpr: the slider for one photo; the one here stands for it near the table.
        messages: the components where mistakes are told, by the input they belong to.

    Attributes:
        table: tells by `select` which photo was picked, as `index`.
        near: the same slider as `tpr`, near the table that it changes.
        photos: the Batch, or None.
        state: the BatchAnswer, or None.
    """

    def __init__(
        self,
        store: Store,
        examples: Sequence[Example],
        asked: Inputs,
        read: Callable[[Values], DetectRequest],
        tpr: gr.Slider,
        messages: Messages,
    ) -> None:
        self.store, self.examples, self.asked, self.read, self.tpr = store, examples, asked, read, tpr
        self.turns = Turns()
        self.running = LRU(_SESSIONS)  # session -> what stops the batch that it began last
        self.photos = gr.State(None)
        self.state = gr.State(None)
        heading(
            "Many photos at once",
            f"At most {MAX_PHOTOS:,}, asked with the classes, the detector and the threshold above.",
            elem_id="lsn-many",
        )
        with gr.Row():
            with gr.Column(scale=3, min_width=300):
                self.files = gr.File(
                    label="Photos, folder or zip",
                    file_count="multiple",
                    height=140,
                    elem_id="lsn-batch-files",
                )
            with gr.Column(scale=1, min_width=200):
                self.folder = gr.UploadButton(
                    "Choose a folder", file_count="directory", size="sm", elem_id="lsn-batch-folder"
                )
                self.sample = gr.Button(
                    f"Try it with the {len(examples)} examples",
                    size="sm",
                    visible=bool(examples),
                    elem_id="lsn-batch-examples",
                )
                self.stop = gr.Button("Stop", size="sm", interactive=False, elem_id="lsn-batch-stop")
        self.messages: Messages = {**messages, "batch": message("lsn-message-batch")}
        self.summary = gr.HTML(visible=False, elem_id="lsn-batch-summary")
        self.near = gr.Slider(
            LOWEST,
            HIGHEST,
            value=DEFAULT_TPR,
            step=0.01,
            label="Share of known photos to keep",
            visible=False,
            elem_id="lsn-batch-tpr",
        )
        self.histogram = gr.Plot(show_label=False, visible=False, elem_id="lsn-batch-histogram")
        # "hidden", not False: what Gradio does not draw loses its photos to the update that comes after.
        self.table = gr.HTML(
            html_template=_TABLE,
            js_on_load=(ASSETS_DIR / "batch.js").read_text(encoding="utf-8"),
            visible="hidden",
            apply_default_css=False,
            elem_id="lsn-batch",
            photos=[],
            value=[],
        )
        with gr.Row(visible=False) as self.hand_off:
            self.save = gr.Button("Download the verdicts as CSV", size="sm", elem_id="lsn-batch-csv")
            self.pack = gr.Button("Download what is none of the classes as a zip", size="sm", elem_id="lsn-batch-zip")
        self.packed = gr.DownloadButton("Zip", visible="hidden", elem_id="lsn-batch-packed")
        self.link = gr.HTML(visible="hidden", elem_id="lsn-batch-link")

    def connect(self) -> None:
        """Connects the components to what they ask for."""
        taken = [
            self.files,
            self.photos,
            self.state,
            self.table,
            self.summary,
            self.near,
            self.histogram,
            self.hand_off,
            self.messages["batch"],
        ]
        gr.on(
            [self.files.upload, self.files.delete, self.folder.upload, self.sample.click],
            lambda: gr.update(interactive=True),
            None,
            self.stop,
            queue=False,
            api_visibility="private",
        )
        for event, fn, given in (
            (self.files.upload, self.take, {self.files}),
            (self.files.delete, self.take, {self.files}),
            (self.folder.upload, self.take_folder, {self.folder}),
            (self.sample.click, self.take_examples, set[Block]()),
        ):
            uploaded = event(fn, given | self.asked, taken, preprocess=False, show_progress_on=self.files, **_EACH)
            self.ask_after(uploaded)
        self.stop.click(self.halt, None, self.stop, queue=False, api_visibility="private")
        self.files.clear(self.clear, None, taken, api_visibility="private")
        self.save.click(self.write, {self.photos, *self.asked}, self.link, **_SHARED).success(
            None, self.link, js=_SAVE, api_visibility="private"
        )
        self.pack.click(self.write_zip, {self.state, *self.asked}, self.packed, **_SHARED).success(
            None, js=_CLICK_PACKED, api_visibility="private"
        )

    @property
    def moving(self) -> Components:
        """The components that follow the threshold."""
        return [self.table, self.summary, self.histogram]

    def ask_after(self, event: Event) -> Event:
        """Asks about the photos at hand after an event that changed them or the question."""
        outputs = [self.state, *self.moving, self.near, self.hand_off, self.tpr, self.stop, *self.messages.values()]
        begun = event.then(self.begin, self.photos, self.stop, queue=False, api_visibility="private")
        return begun.then(self.ask, {self.photos, *self.asked}, outputs, show_progress_on=self.summary, **_EACH)

    def begin(self, batch: Batch | None) -> Any:
        """The stop button, which can be pressed while there are photos to ask about."""
        return gr.update(interactive=batch is not None)

    def halt(self, request: gr.Request) -> Any:
        """Has the session's batch end with the photos that it has reached."""
        running: threading.Event | None = self.running.get(request.session_hash)
        if running is not None:
            running.set()
        return gr.update(interactive=False)

    def clear(self, request: gr.Request) -> Updates:
        """No photos any more."""
        self.turns.begin(request.session_hash)
        return self.drop()

    def drop(self, sentence: str = "") -> Updates:
        """No photos, and the reason where there is one."""
        hidden = gr.update(visible=False)
        return {
            self.photos: None,
            self.state: None,
            self.table: gr.update(visible="hidden", photos=[], value=[]),
            self.summary: hidden,
            self.near: hidden,
            self.histogram: hidden,
            self.hand_off: hidden,
            self.messages["batch"]: hidden_if_empty(sentence),
        }

    def take(self, values: Values, request: gr.Request, progress: gr.Progress = _COUNTED) -> UpdatesOrSkip:
        """Reads and encodes uploaded photos."""
        return self._take([file_in_folder(item) for item in values[self.files] or ()], values, request, progress)

    def take_folder(self, values: Values, request: gr.Request, progress: gr.Progress = _COUNTED) -> UpdatesOrSkip:
        """The photos of a folder; other files that were uploaded before make room."""
        files = [file_in_folder(item) for item in values[self.folder] or ()]
        return self._take(files, values, request, progress, {self.files: None})

    def take_examples(self, values: Values, request: gr.Request, progress: gr.Progress = _COUNTED) -> UpdatesOrSkip:
        """The examples as many photos."""
        files = [(str(example.path), example.path.name) for example in self.examples]
        return self._take(files, values, request, progress, {self.files: None})

    def _take(
        self,
        files: list[tuple[str, str]],
        values: Values,
        request: gr.Request,
        progress: gr.Progress,
        others: Updates | None = None,
    ) -> UpdatesOrSkip:
        turn = self.turns.begin(request.session_hash)
        updates = {**(others or {}), **self._read(files, values, request, progress)}
        return gr.skip() if turn.over else updates

    def _read(
        self, files: list[tuple[str, str]], values: Values, request: gr.Request, progress: gr.Progress
    ) -> Updates:
        if not files:
            return self.drop()
        wanted = self.read(values).detector
        try:
            batch = open_batch(files)
            with problem_at("batch"):
                encoder = open_saved(self.store, wanted.label, wanted.backbone)[1]
            self._encode(batch, encoder, request, progress)
        except Problem as problem:
            return self.drop(words.problem(str(problem)))
        batch.finish_thumbnails()
        return {
            self.photos: batch,
            self.table: gr.update(photos=_rows(batch), value=[]),
            self.messages["batch"]: hidden_if_empty(""),
        }

    def ask(self, values: Values, request: gr.Request, progress: gr.Progress = _COUNTED) -> UpdatesOrSkip:
        """The verdicts on the photos at hand; without any, nothing."""
        question = self.turns.ask(request.session_hash, "verdicts")
        return question.unless_over(self._ask(question, values, request, progress))

    def _ask(self, question: Question, values: Values, request: gr.Request, progress: gr.Progress) -> Updates:
        batch: Batch | None = values[self.photos]
        over: Updates = {self.stop: gr.update(interactive=False)}
        if batch is None:
            return over
        count = len(batch.images)
        try:
            answer = self._answer(batch, self.read(values), request, progress)
        except Problem as problem:
            hidden = gr.update(visible=False)
            note = words.note("No verdicts: something needs to be put right first, see above.")
            return over | {
                self.state: None,
                self.table: hidden,
                self.histogram: hidden,
                self.hand_off: hidden,
                self.summary: hidden_if_empty(note),
                **tell(self.messages, (problem.place,), problem),
            }
        answer = question.answered(answer.without_reasons())
        calibrated = answer.detector.calibration is not None
        verdicts = self._verdicts(answer)
        if len(batch.images) < count:  # it was stopped
            verdicts[self.table] = {**verdicts[self.table], "photos": _rows(batch)}
        return over | {
            self.state: answer,
            **verdicts,
            self.hand_off: gr.update(visible=True),
            self.tpr: gr.update(interactive=calibrated),
            self.near: gr.update(value=answer.tpr, visible=calibrated),
        }

    def move_threshold(self, answer: BatchAnswer | None, tpr: float, request: gr.Request) -> UpdatesOrSkip:
        """Table, summary and histogram at another wanted true positive rate."""
        return self.turns.now(request.session_hash).move(answer, float(tpr), self._verdicts)

    def _verdicts(self, answer: BatchAnswer) -> Updates:
        scores = [one.score for one in answer.predictions if one.score is not None]
        thresholds = [one.threshold for one in answer.predictions if one.threshold is not None]
        histogram = batch_histogram(scores, thresholds[0]) if len(scores) > 1 else None
        return {
            self.table: gr.update(visible=True, value=rows(answer.predictions)),
            self.summary: hidden_if_empty(summary(answer)),
            self.histogram: gr.update(value=histogram, visible=histogram is not None),
        }

    def pick(self, batch: Batch, index: int) -> tuple[str, str, str]:
        """A photo of the table: path, name, and a line on where it is from, as HTML."""
        name = batch.images.names[index]
        # A folder of its own, so that neither visitors nor the name of a photo can get in the way.
        path = Path(tempfile.mkdtemp(dir=self.files.GRADIO_CACHE)) / f"photo{Path(name).suffix.lower()}"
        path.write_bytes(batch.images.read(index))
        source = f"{escape(name)}, {index + 1} of {len(batch.images)}"
        return str(path), name, f"Photo: {source}. {way_here('Back to the table')}"

    def write(self, values: Values, request: gr.Request, progress: gr.Progress = _COUNTED) -> str:
        """The link to the CSV, which is made when it is asked for."""
        batch: Batch | None = values[self.photos]
        if batch is None:
            raise gr.Error("There are no photos to write about.", print_exception=False)
        try:
            return csv_link(self._answer(batch, self.read(values), request, progress))
        except Problem as problem:
            raise gr.Error(str(problem), print_exception=False) from problem

    def write_zip(self, values: Values) -> str:
        """The photos that are none of the classes, at the threshold that the slider is at."""
        answer: BatchAnswer | None = values[self.state]
        if answer is None:
            raise gr.Error("There are no photos to pack.", print_exception=False)
        # A folder of its own, so that visitors cannot get in each other's way.
        path = Path(tempfile.mkdtemp(dir=self.files.GRADIO_CACHE)) / "none-of-the-classes.zip"
        try:
            if not write_unknown(answer.at(self.read(values).tpr), path):
                raise gr.Error("Every photo is judged as known, so there is nothing to pack.", print_exception=False)
        except UserError as error:
            raise gr.Error(str(error), print_exception=False) from error
        return str(path)

    def _answer(self, batch: Batch, asked: DetectRequest, request: gr.Request, progress: gr.Progress) -> BatchAnswer:
        detector, encoder = open_detector(self.store, asked.detector)
        with problem_at("batch"):
            return predict_batch(batch, detector, self._encode(batch, encoder, request, progress), asked.tpr)

    def _encode(self, batch: Batch, encoder: Encoder, request: gr.Request, progress: gr.Progress) -> dict[int, Tensor]:
        stopping = threading.Event()
        self.running.put(request.session_hash, stopping)
        return batch.encode(encoder, progress_bar(progress, "Reading the photos"), stopping.is_set)


def _rows(batch: Batch) -> list[dict[str, str | None]]:
    return [{"name": name, "thumb": batch.thumbnails.get(i)} for i, name in enumerate(batch.images.names)]
