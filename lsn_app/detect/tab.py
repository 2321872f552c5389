"""The Detect tab: one photo or many, the known classes, and whether a photo shows one of them."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.data_classes import FileData

from lsn_app.detect.answer import Answer, Question, ask, score_line
from lsn_app.detect.batch_panel import BatchPanel, way_here
from lsn_app.detect.calibration_panel import HIGHEST, LOWEST, CalibrationPanel
from lsn_app.detect.detector_choice import DEFAULT_CLASSES, DetectorChoice
from lsn_app.detect.heatmap_panel import HeatMapPanel, build_endpoint
from lsn_app.detect.plots import negative_bars, positive_bars, score_scale
from lsn_app.detect.words import empty_card, failed_card, verdict_card
from lsn_app.serving.photos import Photo
from lsn_app.serving.requests import ZERO_SHOT, Problem
from lsn_app.serving.store import Store
from lsn_app.shared import words
from lsn_app.shared.address import Address, read_rate
from lsn_app.shared.components import Components, Event, EventOptions, Updates, UpdatesOrSkip, UploadedFile, Value
from lsn_app.shared.examples import Example
from lsn_app.shared.messages import plot_title, said, shown_if
from lsn_app.shared.photo_input import PhotoInput, file_of
from lsn_core import UserError
from lsn_core.calibration import DEFAULT_TPR

_SHARED: EventOptions = {"concurrency_id": "model", "concurrency_limit": 2, "api_visibility": "private"}
_PLACES = ("photo", "classes", "model", "calibration")
_GO_TO_PHOTO = """() => {
    const narrow = window.innerWidth < 700, calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    document.querySelector(narrow ? "#lsn-verdict" : "#lsn-photo").scrollIntoView(
        {behavior: calm ? "auto" : "smooth", block: narrow ? "center" : "start"});
}"""


def build(store: Store, page: gr.Blocks) -> None:
    """Fills the tab and adds the public endpoints `/score` and `/heatmap`."""
    _DetectTab(store).connect(page)
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
        given: Any = image  # Gradio hands over the plain dictionary
        return score_line(store, *file_of(given if isinstance(given, dict) else given.model_dump()), classes, tpr)

    gr.api(score, api_name="score", concurrency_id="model", concurrency_limit=2)


class _DetectTab:
    """The tab's components, and the functions that its events call."""

    def __init__(self, store: Store) -> None:
        self.store = store
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                self.photo = PhotoInput("lsn", hint=way_here("Many photos at once? See below."))
            with gr.Column(scale=3, min_width=300):
                self.choice = DetectorChoice(store)
                self.card = gr.HTML(empty_card(), elem_id="lsn-verdict")
                self.scale = gr.Plot(show_label=False, visible=False, elem_id="lsn-scale")
                self.calibration = CalibrationPanel(store)
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
        self.messages = {
            "photo": self.photo.message,
            **self.choice.messages,
            "calibration": self.calibration.message,
        }
        model: Components = [self.choice.classes, self.choice.detector, self.choice.backbone]
        self.asked: Components = [*model, self.tpr, self.calibration.state]
        self.heat_maps = HeatMapPanel(store, [self.photo.state, *model])
        self.many = BatchPanel(store, self.photo.examples, self.asked, self.messages)
        self.address = Address(
            "detect",
            "example",
            "#lsn-credit",
            {
                "detector": (self.choice.detector, ZERO_SHOT),
                "classes": (self.choice.classes, DEFAULT_CLASSES),
                "backbone": (self.choice.backbone, store.default),
                "tpr": (self.tpr, DEFAULT_TPR),
            },
        )

    # -- events -------------------------------------------------------------------------------------------------------

    def connect(self, page: gr.Blocks) -> None:
        """Connects the components to what they ask for."""
        asked, choice, many = self.asked, self.choice, self.many
        results = [self.card, self.scale, self.positive, self.negative, self.reasons, self.tpr, *self.messages.values()]
        shown = [*self.photo.outputs[:-1], *results]  # the photo's message is among the results
        question = [self.photo.state, *asked]

        def photo_event(event: Event) -> None:
            self.heat_maps.follow(event)
            self.address.follow(event)

        def question_event(event: Event) -> None:
            photo_event(event)
            many.ask_after(event)

        # preprocess=False: Gradio's own would open the file with Pillow; open_image is to be the only one who does.
        photo_event(
            self.photo.image.upload(self.take_photo, [self.photo.image, *asked], shown, preprocess=False, **_SHARED)
        )
        # The photo's own value is still the old one when it is cleared.
        photo_event(self.photo.image.clear(self.drop_photo, None, shown, **_SHARED))
        photo_event(self.photo.gallery.select(self.take_example, asked, shown, **_SHARED))
        photo_event(many.table.select(self.pick_photo, [many.state, *asked], shown, **_SHARED))
        many.table.select(None, js=_GO_TO_PHOTO, api_visibility="private")

        asking = [choice.classes.submit, choice.classes.blur, choice.ask_button.click]
        question_event(gr.on(asking, self.answer, question, results, trigger_mode="always_last", **_SHARED))
        chosen = choice.detector.change(
            self.choose_detector, choice.detector, [*choice.shown, self.calibration.box], **_SHARED
        )
        question_event(chosen.then(self.answer, question, results, **_SHARED))
        choice.upload.upload(
            choice.take_file, choice.upload, [choice.detector, self.messages["model"]], preprocess=False, **_SHARED
        )
        chosen = choice.backbone.input(
            lambda name: shown_if(words.backbone_note(name)),
            choice.backbone,
            choice.backbone_note,
            api_visibility="private",
        )
        question_event(chosen.then(self.answer, question, results, **_SHARED))
        taken = self.calibration.files.change(
            self.calibration.take,
            [self.calibration.files, choice.detector, choice.backbone],
            [self.calibration.state, self.calibration.note],
            preprocess=False,
            **_SHARED,
        )
        question_event(taken.success(self.answer, question, results, **_SHARED))
        live: EventOptions = {
            "show_progress": "hidden",
            "trigger_mode": "always_last",
            "concurrency_limit": 8,
            "api_visibility": "private",
        }
        for slider, other in ((self.tpr, many.near), (many.near, self.tpr)):
            slider.input(None, slider, other, js="(rate) => rate", api_visibility="private")
            self.address.follow_slider("tpr", slider)
            moved = [slider if part is self.tpr else part for part in asked]
            slider.input(self.move_threshold, [self.photo.state, *moved], [self.card, self.scale], **live)
            slider.input(many.move_threshold, [many.state, *moved], [many.table, many.summary], **live)
        many.connect()
        opened = page.load(
            self.open_link,
            asked,
            list(dict.fromkeys([*asked[:4], choice.backbone_note, *shown])),
            show_progress="hidden",
            **_SHARED,
        )
        self.heat_maps.follow(opened)
        self.address.begin(opened)

    def drop_photo(self) -> Updates:
        """The page without a photo."""
        return {self.card: empty_card(), **self._nothing(), **self._said(None), **self.photo.drop()}

    def take_photo(self, payload: UploadedFile, *asked: Value) -> Updates:
        """An uploaded photo."""
        return self._take_photo(*self.photo.upload(payload), *asked)

    def pick_photo(self, event: gr.SelectData, batch: Value, *asked: Value) -> UpdatesOrSkip:
        """One of many photos, which was picked in their table."""
        if batch is None:
            return gr.skip()
        try:
            taken = self.photo.take(*self.many.pick(batch, int(event.index)))
        except UserError as error:
            taken = None, self.photo.refuse(str(error))
        return self._take_photo(*taken, *asked)

    def _take_photo(self, photo: Photo | None, shown: Updates, *asked: Value) -> Updates:
        if photo is None:
            return {self.card: failed_card(), **self._nothing(), **self._said(None), **shown}
        try:
            return {**shown, **self._answered(self._ask(photo, *asked), *asked)}
        except Problem as problem:
            if problem.place == "photo":
                shown = {**self.photo.drop(), self.photo.image: None}
            return {**shown, **self._failed(problem)}

    def take_example(self, event: gr.SelectData, *asked: Value) -> Updates:
        """The example that was clicked."""
        return self._take_example(self.photo.examples[int(event.index)], *asked)

    def _take_example(self, example: Example, *asked: Value) -> Updates:
        photo, shown = self.photo.example(example)
        return {**shown, **self.answer(photo, *asked)}

    def open_link(self, request: gr.Request, *asked: Value) -> UpdatesOrSkip:
        """What a link asks for: `?detector=imagenette&classes=a,b&backbone=embedded&tpr=0.9&example=dog.jpg`."""
        wanted = dict(request.query_params)
        if wanted.get("tab", "detect") != "detect":
            return gr.skip()
        found: Updates = {}
        if "classes" in wanted:
            found[self.choice.classes] = str(wanted["classes"])[:10_000]
        if wanted.get("detector") in self.store.detectors:
            found[self.choice.detector] = wanted["detector"]
        if wanted.get("backbone") in self.store.choices:
            found[self.choice.backbone] = wanted["backbone"]
            found[self.choice.backbone_note] = shown_if(words.backbone_note(wanted["backbone"]))
        rate = read_rate(wanted.get("tpr"), LOWEST, HIGHEST)
        if rate is not None:
            found[self.tpr] = rate
            asked = (*asked[:3], rate, *asked[4:])
        if example := self.photo.find(str(wanted.get("example"))):
            model = (found.get(part, value) for part, value in zip(self.asked[:3], asked, strict=False))
            answer = self._take_example(example, *model, *asked[3:])
            if rate is not None:
                answer[self.tpr] = {**answer.get(self.tpr, gr.update()), "value": rate}
            found |= answer
        return found or gr.skip()

    def choose_detector(self, label: str) -> Updates:
        """Shows the inputs that the chosen detector has a use for."""
        detector, found = self.choice.choose(label)
        calibrated = detector is not None and detector.calibration is not None
        return {**found, self.calibration.box: gr.update(visible=not calibrated)}

    def answer(self, photo: Photo | None, *asked: Value) -> Updates:
        """Everything that is shown about a photo; without one, nothing changes, as one may just be on its way."""
        if photo is None:
            return self._said(None)
        try:
            return self._answered(self._ask(photo, *asked), *asked)
        except Problem as problem:
            return self._failed(problem)

    def move_threshold(self, photo: Photo | None, *asked: Value) -> UpdatesOrSkip:
        """The card and the scale at another wanted true positive rate."""
        found = self.answer(photo, *asked)
        return {key: value for key, value in found.items() if key in (self.card, self.scale)} or gr.skip()

    def _ask(
        self, photo: Photo, classes: str, label: str, backbone: str, tpr: float, calibration: tuple[Photo, ...]
    ) -> Answer:
        return ask(self.store, Question(photo, classes, label, backbone, float(tpr), tuple(calibration)))

    def _answered(self, answer: Answer, *asked: Value) -> Updates:
        tpr = float(asked[3])
        prediction, detector, temperature = answer.prediction, answer.detector, answer.temperature
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
            self.card: verdict_card(prediction, tpr, len(scores or ())),
            self.scale: gr.update(value=scale, visible=True),
            self.positive: positive_bars(prediction.positive, temperature),
            self.negative: negative_bars(prediction.positive, prediction.negative, temperature),
            self.reasons: gr.update(visible=True),
            self.tpr: gr.update(interactive=scores is not None),
            **self._said(None),
        }

    def _failed(self, problem: Problem) -> Updates:
        return {self.card: failed_card(), **self._nothing(), **self._said(problem)}

    def _nothing(self) -> Updates:
        return {self.scale: gr.update(visible=False), self.reasons: gr.update(visible=False)}

    def _said(self, problem: Problem | None) -> Updates:
        return said(self.messages, _PLACES, problem)
