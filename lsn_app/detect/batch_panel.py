"""The Detect tab's many photos: where they are dropped, and the table of their verdicts."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from html import escape
from pathlib import Path

import gradio as gr
from torch import Tensor

from lsn_app.detect.batch import csv_link, judge, rows, summary
from lsn_app.detect.calibration_panel import HIGHEST, LOWEST
from lsn_app.serving.encoder import Encoder
from lsn_app.serving.photos import Photo
from lsn_app.serving.requests import Problem, open_detector, open_judge, problem_at
from lsn_app.serving.store import Store
from lsn_app.shared import words
from lsn_app.shared.components import Components, Event, EventOptions, Updates, UpdatesOrSkip, UploadedFiles, Value
from lsn_app.shared.examples import Example
from lsn_app.shared.messages import counter, heading, shown_if
from lsn_app.shared.photo_input import file_of
from lsn_app.shared.uploads import MAX_PHOTOS, Batch, find_items
from lsn_core import Detector, Prediction
from lsn_core.calibration import DEFAULT_TPR

_ASSETS = Path(__file__).resolve().parents[2] / "assets"
_TABLE = """
<fieldset class="lsn-filters"><legend>Show</legend></fieldset>
<div class="not-scroll lsn-batch-scroll" tabindex="0" role="region" aria-label="Verdicts on many photos">
<table><thead><tr></tr></thead><tbody></tbody></table><p class="lsn-none" hidden>No photo of this kind.</p></div>
<p class="lsn-note">Click a photo to see it above with its reasons, and a column's name to sort by it.</p>
"""
# A slow model must not keep other visitors' single photos waiting, so batches wait for each other only.
_SHARED: EventOptions = {"concurrency_id": "batch", "concurrency_limit": 4, "api_visibility": "private"}
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
        asked: the components for classes, detector, backbone, true positive rate and calibration photos.
        messages: the components where mistakes are told, by the input they belong to.

    Attributes:
        table: tells by `select` which photo was picked, as `index`.
        near: the same slider as for one photo, near the table that it changes.
        state: the Batch, or None.
    """

    def __init__(
        self, store: Store, examples: Sequence[Example], asked: Components, messages: dict[str, gr.HTML]
    ) -> None:
        self.store, self.examples, self.asked, self.messages = store, examples, asked, messages
        self.tpr = asked[3]
        self.state = gr.State(None)
        heading(
            "Many photos at once", "Judged with the classes, the detector and the threshold above.", elem_id="lsn-many"
        )
        with gr.Row():
            with gr.Column(scale=3, min_width=300):
                self.files = gr.File(
                    label=f"Photos, folder or zip (at most {MAX_PHOTOS:,})",
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
        self.messages["batch"] = gr.HTML(visible=False, elem_id="lsn-message-batch")
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
        # "hidden", not False: what Gradio does not draw loses its photos to the update that comes after.
        self.table = gr.HTML(
            html_template=_TABLE,
            js_on_load=(_ASSETS / "batch.js").read_text(encoding="utf-8"),
            visible="hidden",
            apply_default_css=False,
            elem_id="lsn-batch",
            photos=[],
            value=[],
        )
        self.save = gr.Button("Download the verdicts as CSV", size="sm", visible=False, elem_id="lsn-batch-csv")
        self.link = gr.HTML(visible="hidden", elem_id="lsn-batch-link")

    def connect(self) -> None:
        """Connects the components to what they ask for."""
        question, about = [self.state, *self.asked], self.asked[1:3]
        taken = [self.files, self.state, self.table, self.summary, self.near, self.save, self.messages["batch"]]
        for event, fn, inputs in (
            (self.files.upload, self.take, [self.files, *about]),
            (self.files.delete, self.take, [self.files, *about]),
            (self.folder.upload, self.take_folder, [self.folder, *about]),
            (self.sample.click, self.take_examples, about),
        ):
            self.ask_after(event(fn, inputs, taken, preprocess=False, show_progress_on=self.files, **_SHARED))
        self.files.clear(self.drop, None, taken, api_visibility="private")
        self.save.click(self.write, question, self.link, **_SHARED).success(
            None, self.link, js=_SAVE, api_visibility="private"
        )

    def ask_after(self, event: Event) -> Event:
        """Judges the photos at hand after an event that changed them or what is asked."""
        outputs = [self.table, self.summary, self.near, self.save, self.tpr, *self.messages.values()]
        return event.then(self.ask, [self.state, *self.asked], outputs, show_progress_on=self.summary, **_SHARED)

    def drop(self, sentence: str = "") -> Updates:
        """No photos, and the reason where there is one."""
        hidden = gr.update(visible=False)
        return {
            self.state: None,
            self.table: gr.update(visible="hidden", photos=[], value=[]),
            self.summary: hidden,
            self.near: hidden,
            self.save: hidden,
            self.messages["batch"]: shown_if(sentence),
        }

    def take(self, payload: UploadedFiles, label: str, backbone: str, progress: gr.Progress = gr.Progress()) -> Updates:  # noqa: B008
        """Reads and encodes uploaded photos."""
        return self._take([file_of(item) for item in payload or ()], label, backbone, progress)

    def take_folder(
        self,
        payload: UploadedFiles,
        label: str,
        backbone: str,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Updates:
        """The photos of a folder; other files that were uploaded before make room."""
        return {self.files: None, **self.take(payload, label, backbone, progress)}

    def take_examples(self, label: str, backbone: str, progress: gr.Progress = gr.Progress()) -> Updates:  # noqa: B008
        """The examples as many photos."""
        files = [(str(example.path), example.path.name) for example in self.examples]
        return {self.files: None, **self._take(files, label, backbone, progress)}

    def _take(self, files: list[tuple[str, str]], label: str, backbone: str, progress: gr.Progress) -> Updates:
        if not files:
            return self.drop()
        try:
            batch = find_items(files)
            with problem_at("batch"):
                encoder = open_detector(self.store, label, backbone)[1]
            self._encode(batch, encoder, progress)
        except Problem as problem:
            return self.drop(words.problem(str(problem)))
        batch.finish_thumbnails()
        photos = [{"name": item.name, "thumb": batch.thumbnails.get(i)} for i, item in enumerate(batch.items)]
        return {self.state: batch, self.table: gr.update(photos=photos, value=[]), self.messages["batch"]: shown_if("")}

    def ask(
        self,
        batch: Batch | None,
        classes: str,
        label: str,
        backbone: str,
        tpr: float,
        calibration: tuple[Photo, ...],
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> UpdatesOrSkip:
        """The verdicts on the photos at hand; without any, nothing."""
        if batch is None:
            return gr.skip()
        try:
            predictions, detector = self._judge(batch, classes, label, backbone, tpr, calibration, progress)
        except Problem as problem:
            hidden = gr.update(visible=False)
            return {
                self.table: hidden,
                self.save: hidden,
                self.summary: shown_if(words.note("No verdicts: something needs to be put right first, see above.")),
                self.messages[problem.place]: shown_if(words.problem(str(problem))),
            }
        return {
            self.table: gr.update(visible=True, value=rows(predictions)),
            self.summary: shown_if(summary(batch, predictions, detector, float(tpr))),
            self.save: gr.update(visible=True),
            self.tpr: gr.update(interactive=detector.calibration is not None),
            self.near: gr.update(value=tpr, visible=detector.calibration is not None),
        }

    def move_threshold(self, batch: Batch | None, *asked: Value) -> UpdatesOrSkip:
        """Table and summary at another wanted true positive rate."""
        found = self.ask(batch, *asked)
        return found if batch is None else {part: found[part] for part in (self.table, self.summary)}

    def pick(self, batch: Batch, place: int) -> tuple[str, str, str]:
        """A photo of the table: path, name, and a line on where it is from, as HTML."""
        item = batch.items[place]
        # A folder of its own, so that neither visitors nor the name of a photo can get in the way.
        path = Path(tempfile.mkdtemp(dir=self.files.GRADIO_CACHE)) / f"photo{Path(item.name).suffix.lower()}"
        path.write_bytes(item.read())
        source = f"{escape(item.name)}, {place + 1} of {len(batch.items)}"
        return str(path), item.name, f"Photo: {source}. {way_here('Back to the table')}"

    def write(
        self,
        batch: Batch | None,
        classes: str,
        label: str,
        backbone: str,
        tpr: float,
        calibration: tuple[Photo, ...],
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> str:
        """The link to the CSV, which is made when it is asked for."""
        if batch is None:
            raise gr.Error("There are no photos to write about.", print_exception=False)
        try:
            return csv_link(batch, self._judge(batch, classes, label, backbone, tpr, calibration, progress)[0])
        except Problem as problem:
            raise gr.Error(str(problem), print_exception=False) from problem

    def _judge(
        self,
        batch: Batch,
        classes: str,
        label: str,
        backbone: str,
        tpr: float,
        calibration: tuple[Photo, ...],
        progress: gr.Progress,
    ) -> tuple[list[Prediction], Detector]:
        detector, encoder = open_judge(self.store, classes, label, backbone, calibration)
        with problem_at("batch"):
            return judge(batch, detector, self._encode(batch, encoder, progress), float(tpr)), detector

    def _encode(self, batch: Batch, encoder: Encoder, progress: gr.Progress) -> dict[int, Tensor]:
        return batch.encode(encoder, counter(progress, len(batch.items), "Looking at the photos"))
