"""The Detect tab: one photo or many, the known classes, and whether a photo shows one of them."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.data_classes import FileData

from lsn_app.detect.answer import Answer, DetectRequest, ask, score_line
from lsn_app.detect.batch_panel import BatchPanel, way_here
from lsn_app.detect.calibration_panel import HIGHEST, LOWEST, CalibrationPanel
from lsn_app.detect.detector_choice import DEFAULT_CLASSES, DetectorChoice
from lsn_app.detect.heatmap_panel import HeatMapPanel, build_endpoint
from lsn_app.detect.plots import negative_bars, positive_bars, score_scale
from lsn_app.detect.words import empty_card, failed_card, verdict_card
from lsn_app.serving.photos import Photo
from lsn_app.serving.requests import ZERO_SHOT, DetectorRequest, Place, Problem
from lsn_app.shared import words
from lsn_app.shared.address import Address, read_rate
from lsn_app.shared.components import Event, EventOptions, Inputs, Updates, UpdatesOrSkip, Values
from lsn_app.shared.examples import Example
from lsn_app.shared.messages import Messages, hidden_if_empty, plot_title, tell
from lsn_app.shared.photo_input import PhotoInput, file_of
from lsn_app.shared.shared import Shared
from lsn_core import UserError
from lsn_core.calibration import DEFAULT_TPR

_SHARED: EventOptions = {"concurrency_id": "model", "concurrency_limit": 2, "api_visibility": "private"}
_PLACES: tuple[Place, ...] = ("photo", "classes", "model", "calibration")
_GO_TO_PHOTO = """() => {
    const narrow = window.innerWidth < 700, calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    document.querySelector(narrow ? "#lsn-verdict" : "#lsn-photo").scrollIntoView(
        {behavior: calm ? "auto" : "smooth", block: narrow ? "center" : "start"});
}"""


def build(shared: Shared) -> None:
    """Fills the tab and adds the public endpoints `/score` and `/heatmap`."""
    store = shared.store
    _DetectTab(shared).connect()
    build_endpoint(store, DEFAULT_CLASSES)

    def score(image: FileData, classes: str = DEFAULT_CLASSES, tpr: float = 0.95) -> dict[str, Any]:
        """Tells whether a photo shows one of the given classes, with the default backbone and zero-shot prompts.

        Args:
            image: the photo (JPEG, PNG, WebP, BMP, GIF or TIFF), uploaded here or as a data URL; no address is fetched.
            classes: names of the known classes, separated by commas or line ends; at least two.
            tpr: wanted true positive rate, between 0 and 1; of effect only for a calibrated detector.

        Returns:
            file, verdict ("ID" or "OOD"), score, threshold, calibrated, p_value, predicted_class, positive (class ->
            cosine), negative (class -> cosines), error (a sentence where there is no verdict, else null).
        """
        return score_line(store, *file_of(image), classes, tpr)

    gr.api(score, api_name="score", concurrency_id="model", concurrency_limit=2)


class _DetectTab:
    """The tab's components, and the functions that its events call."""

    def __init__(self, shared: Shared) -> None:
        self.store, self.page = shared.store, shared.page
        self.answer = gr.State(None)  # the Answer on the page, or None
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                self.photo = PhotoInput("lsn", hint=way_here("Many photos at once? See below."))
            with gr.Column(scale=3, min_width=300):
                self.choice = DetectorChoice(shared)
                self.card = gr.HTML(empty_card(), elem_id="lsn-verdict")
                self.scale = gr.Plot(show_label=False, visible=False, elem_id="lsn-scale")
                self.calibration = CalibrationPanel(self.store)
        with gr.Row(visible=False) as self.reasons:
            with gr.Column(min_width=300):
                plot_title(
                    "What it is",
                    "How well “a photo of a …” fits, compared across the classes. Together they make 100 %.",
                )
                self.positive = gr.Plot(show_label=False, elem_id="lsn-positive")
            with gr.Column(min_width=300):
                plot_title(
                    "What it is not",
                    "How well “not a photo of a …” fits, compared across the classes. The class that is there should "
                    "have a short bar; CLIP overlooks the “not” until negative prompts are learned.",
                )
                self.negative = gr.Plot(show_label=False, elem_id="lsn-negative")
        self.tpr = self.calibration.tpr
        self.messages: Messages = {
            "photo": self.photo.message,
            **self.choice.messages,
            "calibration": self.calibration.message,
        }
        self.asked: Inputs = {*self.choice.inputs, self.tpr, self.calibration.state}
        self.heat_maps = HeatMapPanel(self.store, {self.photo.state, *self.asked}, self._request)
        self.many = BatchPanel(self.store, self.photo.examples, self.asked, self._request, self.tpr, self.messages)
        self.address = Address(
            "detect",
            "example",
            "#lsn-credit",
            {
                "detector": (self.choice.detector, ZERO_SHOT),
                "classes": (self.choice.classes, DEFAULT_CLASSES),
                "backbone": (self.choice.backbone, self.store.default),
                "tpr": (self.tpr, DEFAULT_TPR),
            },
        )

    def _request(self, values: Values) -> DetectRequest:
        """What is asked, in the values of `asked`; of the photo in its state, where that is among them."""
        return DetectRequest(
            values.get(self.photo.state),
            DetectorRequest(
                values[self.choice.classes],
                values[self.choice.detector],
                values[self.choice.backbone],
                tuple(values[self.calibration.state]),
            ),
            float(values[self.tpr]),
        )

    # -- events -------------------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Connects the components to what they ask for."""
        choice, many = self.choice, self.many
        question = {self.photo.state, *self.asked}
        results = [
            self.answer,
            self.card,
            self.scale,
            self.positive,
            self.negative,
            self.reasons,
            self.tpr,
            *self.messages.values(),
        ]
        everything = [*self.photo.outputs[:-1], *results]  # the photo's message is among the results

        def photo_event(event: Event) -> None:
            self.heat_maps.follow(event)
            self.address.follow(event)

        def question_event(event: Event) -> None:
            photo_event(event)
            many.ask_after(event)

        # preprocess=False: Gradio's own would open the file with Pillow; open_image is to be the only one who does.
        uploaded = {self.photo.image, *self.asked}
        photo_event(self.photo.image.upload(self.take_photo, uploaded, everything, preprocess=False, **_SHARED))
        # The photo's own value is still the old one when it is cleared.
        photo_event(self.photo.image.clear(self.drop_photo, None, everything, **_SHARED))
        photo_event(self.photo.gallery.select(self.take_example, self.asked, everything, **_SHARED))
        photo_event(many.table.select(self.pick_photo, {many.photos, *self.asked}, everything, **_SHARED))
        many.table.select(None, js=_GO_TO_PHOTO, api_visibility="private")

        asking = [choice.classes.submit, choice.classes.blur, choice.ask_button.click]
        question_event(gr.on(asking, self.ask_again, question, results, trigger_mode="always_last", **_SHARED))
        chosen = choice.detector.change(
            self.choose_detector, choice.detector, [*choice.outputs, self.calibration.box], **_SHARED
        )
        question_event(chosen.then(self.ask_again, question, results, **_SHARED))
        choice.upload.upload(
            choice.take_file, choice.upload, [choice.detector, self.messages["model"]], preprocess=False, **_SHARED
        )
        chosen = choice.backbone.input(
            lambda name: hidden_if_empty(words.backbone_note(name)),
            choice.backbone,
            choice.backbone_note,
            api_visibility="private",
        )
        question_event(chosen.then(self.ask_again, question, results, **_SHARED))
        taken = self.calibration.files.change(
            self.calibration.take,
            [self.calibration.files, choice.detector, choice.backbone],
            [self.calibration.state, self.calibration.note],
            preprocess=False,
            **_SHARED,
        )
        question_event(taken.success(self.ask_again, question, results, **_SHARED))
        live: EventOptions = {
            "show_progress": "hidden",
            "trigger_mode": "always_last",
            "concurrency_limit": 8,
            "api_visibility": "private",
        }
        for slider, other in ((self.tpr, many.near), (many.near, self.tpr)):
            slider.input(None, slider, other, js="(rate) => rate", api_visibility="private")
            self.address.follow_slider("tpr", slider)
            slider.input(self.move_threshold, [self.answer, slider], [self.card, self.scale], **live)
            slider.input(many.move_threshold, [many.state, slider], [many.table, many.summary], **live)
        many.connect()
        opened = self.page.load(
            self.open_link,
            self.asked,
            list(dict.fromkeys([*choice.inputs, choice.backbone_note, *everything])),
            show_progress="hidden",
            **_SHARED,
        )
        self.heat_maps.follow(opened)
        self.address.begin(opened)

    def drop_photo(self) -> Updates:
        """The page without a photo."""
        return {**self._nothing(empty_card()), **self._tell(None), **self.photo.drop()}

    def take_photo(self, values: Values) -> Updates:
        """An uploaded photo."""
        return self._take_photo(*self.photo.upload(values[self.photo.image]), values)

    def pick_photo(self, event: gr.SelectData, values: Values) -> UpdatesOrSkip:
        """One of many photos, which was picked in their table."""
        batch = values[self.many.photos]
        if batch is None:
            return gr.skip()
        try:
            taken = self.photo.take(*self.many.pick(batch, int(event.index)))
        except UserError as error:
            taken = None, self.photo.refuse(str(error))
        return self._take_photo(*taken, values)

    def _take_photo(self, photo: Photo | None, updates: Updates, values: Values) -> Updates:
        if photo is None:
            return {**self._nothing(failed_card()), **self._tell(None), **updates}
        try:
            return {**updates, **self._answered(ask(self.store, self._request({**values, self.photo.state: photo})))}
        except Problem as problem:
            if problem.place == "photo":
                updates = {**self.photo.drop(), self.photo.image: None}
            return {**updates, **self._failed(problem)}

    def take_example(self, event: gr.SelectData, values: Values) -> Updates:
        """The example that was clicked."""
        return self._take_example(self.photo.examples[int(event.index)], values)

    def _take_example(self, example: Example, values: Values) -> Updates:
        photo, updates = self.photo.example(example)
        return {**updates, **self.ask_again({**values, self.photo.state: photo})}

    def open_link(self, request: gr.Request, values: Values) -> UpdatesOrSkip:
        """What a link asks for: `?detector=imagenette&classes=a,b&backbone=embedded&tpr=0.9&example=dog.jpg`."""
        query = {name: str(value)[:10_000] for name, value in request.query_params.items()}
        if query.get("tab", "detect") != "detect":
            return gr.skip()
        updates: Updates = {}
        if "classes" in query:
            updates[self.choice.classes] = query["classes"]
        if query.get("detector") in self.store.detectors:
            updates[self.choice.detector] = query["detector"]
        if query.get("backbone") in self.store.choices:
            updates[self.choice.backbone] = query["backbone"]
            updates[self.choice.backbone_note] = hidden_if_empty(words.backbone_note(query["backbone"]))
        rate = read_rate(query.get("tpr"), LOWEST, HIGHEST)
        if rate is not None:
            updates[self.tpr] = rate
        if example := self.photo.find(query.get("example", "")):
            asked = {**values, **{part: value for part, value in updates.items() if part in self.asked}}
            answer = self._take_example(example, asked)
            if rate is not None:
                answer[self.tpr] = {**answer.get(self.tpr, gr.update()), "value": rate}
            updates |= answer
        return updates or gr.skip()

    def choose_detector(self, label: str) -> Updates:
        """Shows the inputs that the chosen detector has a use for."""
        detector, updates = self.choice.choose(label)
        calibrated = detector is not None and detector.calibration is not None
        return {**updates, self.calibration.box: gr.update(visible=not calibrated)}

    def ask_again(self, values: Values) -> Updates:
        """The answer about the photo at hand; without one, nothing changes, as one may just be on its way."""
        request = self._request(values)
        if request.photo is None:
            return self._tell(None)
        try:
            return self._answered(ask(self.store, request))
        except Problem as problem:
            return self._failed(problem)

    def move_threshold(self, answer: Answer | None, tpr: float) -> UpdatesOrSkip:
        """The verdict at another wanted true positive rate; the reasons stay, as they do not depend on it."""
        return gr.skip() if answer is None else self._verdict(answer.at(float(tpr)))

    def _answered(self, answer: Answer) -> Updates:
        return {
            self.answer: answer,
            **self._verdict(answer),
            **self._reasons(answer),
            self.tpr: gr.update(interactive=answer.detector.calibration is not None),
            **self._tell(None),
        }

    def _verdict(self, answer: Answer) -> Updates:
        prediction, detector = answer.prediction, answer.detector
        scores = detector.calibration.scores.tolist() if detector.calibration else None
        assert prediction.score is not None and prediction.threshold is not None
        scale = score_scale(
            prediction.score,
            prediction.threshold,
            known=prediction.verdict == "ID",
            calibration=scores,
            score_label="score" if detector.score_name == "lsn" else f"score ({detector.score_name})",
        )
        return {
            self.card: verdict_card(prediction, answer.tpr, len(scores or ())),
            self.scale: gr.update(value=scale, visible=True),
        }

    def _reasons(self, answer: Answer) -> Updates:
        prediction = answer.prediction
        return {
            self.positive: positive_bars(prediction.positive, answer.temperature),
            self.negative: negative_bars(prediction.positive, prediction.negative, answer.temperature),
            self.reasons: gr.update(visible=True),
        }

    def _failed(self, problem: Problem) -> Updates:
        return {**self._nothing(failed_card()), **self._tell(problem)}

    def _nothing(self, card: str) -> Updates:
        hidden = gr.update(visible=False)
        return {self.answer: None, self.card: card, self.scale: hidden, self.reasons: hidden}

    def _tell(self, problem: Problem | None) -> Updates:
        return tell(self.messages, _PLACES, problem)
