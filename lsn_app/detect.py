"""The Detect tab: one photo, the known classes, and whether the photo shows one of them."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.data_classes import FileData

from lsn_app import plots, words
from lsn_app.examples import Example
from lsn_app.heatmap_panel import HeatMapPanel, build_endpoint
from lsn_app.photo import PhotoInput, file_of
from lsn_app.questions import ZERO_SHOT, Answer, Problem, Question, ask, open_detector, score_line
from lsn_app.store import Photo, Store, read_photo
from lsn_core import UserError

DEFAULT_CLASSES = "dog, cat, elephant, flamingo"
MAX_CALIBRATION = 500
_SHARED: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 2, "api_visibility": "private"}
_PLACES = ("photo", "classes", "model", "calibration")


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
        self.calibration_state = gr.State(())
        self.messages: dict[str, gr.HTML] = {}
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                self.photo = PhotoInput("lsn")
                self.messages["photo"] = self.photo.message
            with gr.Column(scale=3, min_width=300):
                self._build_question()
                self.card = gr.HTML(words.empty_card(), elem_id="lsn-verdict")
                self.scale = gr.Plot(show_label=False, visible=False, elem_id="lsn-scale")
                self._build_calibration()
        with gr.Row(visible=False) as self.reasons:
            with gr.Column(min_width=300):
                _plot_title(
                    "What it is",
                    "How well “a photo of a …” fits, compared across the classes. Together they make 100 %.",
                )
                self.positive = gr.Plot(show_label=False, elem_id="lsn-positive")
            with gr.Column(min_width=300):
                _plot_title(
                    "What it is not",
                    "How well “not a photo of a …” fits, compared across the classes. The class that is there should "
                    "have a short bar; CLIP overlooks the “not” until negative prompts are learned.",
                )
                self.negative = gr.Plot(show_label=False, elem_id="lsn-negative")

    def _build_question(self) -> None:
        self.classes = gr.Textbox(
            DEFAULT_CLASSES, label="Known classes", info="Separated by commas or lines. Press Enter to ask again.",
            lines=1, max_lines=6, elem_id="lsn-classes",
        )  # fmt: skip
        self.own_classes = gr.HTML(visible=False, elem_id="lsn-own-classes")
        self._message("classes")
        self.ask_button = gr.Button("Ask again with these classes", size="sm", elem_id="lsn-ask")
        with gr.Row():
            self.detector = gr.Dropdown(
                [ZERO_SHOT, *self.store.detectors],
                value=ZERO_SHOT,
                label="Detector",
                min_width=200,
                elem_id="lsn-detector",
            )
            self.backbone = gr.Dropdown(
                self.store.choices, value=self.store.default, label="CLIP model (backbone)", min_width=200,
                allow_custom_value=not self.store.public, elem_id="lsn-backbone",
            )  # fmt: skip
        note = words.backbone_note(self.store.default)
        self.backbone_note = gr.HTML(note, visible=bool(note), elem_id="lsn-backbone-note")
        self._message("model")

    def _build_calibration(self) -> None:
        self.tpr = gr.Slider(
            0.80, 0.99, value=0.95, step=0.01, label="Share of known photos to keep (true positive rate)",
            info="Moves the threshold; works once the detector is calibrated.", interactive=False, elem_id="lsn-tpr",
        )  # fmt: skip
        with gr.Accordion("Calibrate with your own photos", open=False, elem_id="lsn-calibrate") as self.calibrate:
            gr.Markdown(
                "Upload photos that **do** show your known classes (19 or more for a rate of 95 %). Their scores tell "
                "how low a known photo can score, and the threshold is set there."
            )
            self.files = gr.File(
                label="Calibration photos", file_count="multiple", file_types=["image"], height=140, elem_id="lsn-files"
            )
            self.calibration_note = gr.HTML(visible=False, elem_id="lsn-calibration-note")
            self._message("calibration")

    def _message(self, place: str) -> None:
        self.messages[place] = gr.HTML(visible=False, elem_id=f"lsn-message-{place}")

    # -- events -------------------------------------------------------------------------------------------------------

    def connect(self, page: gr.Blocks) -> None:
        """Connects the components to what they ask for."""
        asked = [self.classes, self.detector, self.backbone, self.tpr, self.calibration_state]
        results = [self.card, self.scale, self.positive, self.negative, self.reasons, self.tpr, *self.messages.values()]
        shown = [*self.photo.outputs[:-1], *results]  # the photo's message is among the results
        follow = HeatMapPanel(self.store, [self.photo.state, self.classes, self.detector, self.backbone]).follow
        # preprocess=False: Gradio's own would open the file with Pillow; open_image is to be the only one who does.
        follow(self.photo.image.upload(self.take_photo, [self.photo.image, *asked], shown, preprocess=False, **_SHARED))
        # The photo's own value is still the old one when it is cleared.
        follow(self.photo.image.clear(self.drop_photo, None, shown, **_SHARED))
        follow(self.photo.gallery.select(self.take_example, asked, shown, **_SHARED))
        question = [self.photo.state, *asked]
        asking = [self.classes.submit, self.classes.blur, self.ask_button.click]
        follow(gr.on(asking, self.answer, question, results, **_SHARED))
        choice = [self.classes, self.own_classes, self.ask_button, self.backbone, self.backbone_note, self.calibrate]
        chosen = self.detector.change(self.choose_detector, [self.detector, self.backbone], choice, **_SHARED)
        follow(chosen.then(self.answer, question, results, **_SHARED))
        chosen = self.backbone.input(
            lambda name: _shown(words.backbone_note(name)), self.backbone, self.backbone_note, api_visibility="private"
        )
        follow(chosen.then(self.answer, question, results, **_SHARED))
        self.files.change(
            self.take_calibration, [self.files, self.detector, self.backbone],
            [self.calibration_state, self.calibration_note], preprocess=False, **_SHARED,
        ).success(self.answer, question, results, **_SHARED)  # fmt: skip
        self.tpr.input(
            self.move_threshold, question, [self.card, self.scale], show_progress="hidden",
            trigger_mode="always_last", concurrency_limit=8, api_visibility="private",
        )  # fmt: skip
        follow(
            page.load(self.open_link, asked, [self.classes, self.detector, *shown], show_progress="hidden", **_SHARED)
        )

    def drop_photo(self) -> dict[Any, Any]:
        """The page without a photo."""
        return {self.card: words.empty_card(), **self._nothing(), **self._said(None), **self.photo.drop()}

    def take_photo(self, payload: dict[str, Any], *asked: Any) -> dict[Any, Any]:
        """An uploaded photo."""
        photo, shown = self.photo.upload(payload)
        if photo is None:
            return {self.card: words.failed_card(), **self._nothing(), **self._said(None), **shown}
        try:
            return {**shown, **self._answered(self._ask(photo, *asked), *asked)}
        except Problem as problem:
            if problem.place == "photo":
                shown = {**self.photo.drop(), self.photo.image: None}
            return {**shown, **self._failed(problem)}

    def take_example(self, event: gr.SelectData, *asked: Any) -> dict[Any, Any]:
        """The example that was clicked."""
        return self._take_example(self.photo.examples[int(event.index)], *asked)

    def _take_example(self, example: Example, *asked: Any) -> dict[Any, Any]:
        photo, shown = self.photo.example(example)
        return {**shown, **self.answer(photo, *asked)}

    def open_link(self, request: gr.Request, *asked: Any) -> Any:
        """What a link asks for: `?detector=imagenette&classes=a,b&example=dog.jpg`."""
        wanted = dict(request.query_params)
        classes, label = str(wanted.get("classes") or asked[0])[:10_000], str(wanted.get("detector"))
        found: dict[Any, Any] = {self.classes: classes} if "classes" in wanted else {}
        if label in self.store.detectors:
            found[self.detector] = label
        if example := self.photo.find(str(wanted.get("example"))):
            found |= self._take_example(example, classes, found.get(self.detector, asked[1]), *asked[2:])
        return found or gr.skip()

    def choose_detector(self, label: str, backbone: str) -> dict[Any, Any]:
        """Shows the inputs that the chosen detector has a use for."""
        zero_shot = label == ZERO_SHOT
        found: dict[Any, Any] = {
            component: gr.update(visible=zero_shot) for component in (self.classes, self.ask_button, self.calibrate)
        }
        found[self.own_classes] = gr.update(visible=False)
        found[self.backbone] = gr.update(interactive=True)
        if zero_shot:
            return found
        try:
            detector, encoder = self.store.detector(label)
        except UserError:
            return found  # the answer that follows says why
        names = ", ".join(detector.class_names)
        found[self.own_classes] = gr.update(value=words.note(f"This detector knows: {names}."), visible=True)
        found[self.calibrate] = gr.update(visible=detector.calibration is None)
        found[self.backbone] = gr.update(value=encoder.name, interactive=False)
        found[self.backbone_note] = _shown(words.backbone_note(encoder.name))
        return found

    def take_calibration(
        self,
        payload: Any,
        label: str,
        backbone: str,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Any:
        """Reads and encodes the calibration photos; unusable ones are named and left out."""
        files = [file_of(item) for item in payload or ()]
        used, refused = [], []
        try:
            if len(files) > MAX_CALIBRATION:
                raise UserError(f"{len(files)} photos were given; at most {MAX_CALIBRATION} are taken. Give fewer.")
            encoder = open_detector(self.store, label, backbone)[1]
        except UserError as error:
            return {self.calibration_state: (), self.calibration_note: _shown(words.problem(str(error)))}
        for path, name in progress.tqdm(files, desc="Reading calibration photos", unit="photo"):
            try:
                photo = read_photo(path, name)
                encoder.encode_photo(photo)
                used.append(photo)
            except UserError as error:
                refused.append(str(error))
        text = words.note(f"{len(used)} of {len(files)} photos are used for calibration.") if files else ""
        if refused:
            more = f" And {len(refused) - 3} more could not be read." if len(refused) > 3 else ""
            text += words.problem(" ".join(refused[:3]) + more)
        return {self.calibration_state: tuple(used), self.calibration_note: _shown(text)}

    def answer(self, photo: Photo | None, *asked: Any) -> dict[Any, Any]:
        """Everything that is shown about a photo; without one, nothing changes, as one may just be on its way."""
        if photo is None:
            return self._said(None)
        try:
            return self._answered(self._ask(photo, *asked), *asked)
        except Problem as problem:
            return self._failed(problem)

    def move_threshold(self, photo: Photo | None, *asked: Any) -> Any:
        """The card and the scale at another wanted true positive rate."""
        found = self.answer(photo, *asked)
        return {key: value for key, value in found.items() if key in (self.card, self.scale)} or gr.skip()

    def _ask(
        self, photo: Photo, classes: str, label: str, backbone: str, tpr: float, calibration: tuple[Photo, ...]
    ) -> Answer:
        return ask(self.store, Question(photo, classes, label, backbone, float(tpr), tuple(calibration)))

    def _answered(self, answer: Answer, *asked: Any) -> dict[Any, Any]:
        tpr = float(asked[3])
        prediction, detector, temperature = answer.prediction, answer.detector, answer.temperature
        scores = detector.calibration.scores.tolist() if detector.calibration else None
        assert prediction.score is not None and prediction.threshold is not None
        scale = plots.score_scale(
            prediction.score, prediction.threshold, known=prediction.verdict == "ID", calibration=scores,
            score_label="score" if detector.score_name == "lsn" else f"score ({detector.score_name})",
        )  # fmt: skip
        return {
            self.card: words.verdict_card(prediction, tpr, len(scores or ())),
            self.scale: gr.update(value=scale, visible=True),
            self.positive: plots.positive_bars(prediction.positive, temperature),
            self.negative: plots.negative_bars(prediction.positive, prediction.negative, temperature),
            self.reasons: gr.update(visible=True),
            self.tpr: gr.update(interactive=scores is not None),
            **self._said(None),
        }

    def _failed(self, problem: Problem) -> dict[Any, Any]:
        return {self.card: words.failed_card(), **self._nothing(), **self._said(problem)}

    def _nothing(self) -> dict[Any, Any]:
        return {self.scale: gr.update(visible=False), self.reasons: gr.update(visible=False)}

    def _said(self, problem: Problem | None) -> dict[Any, Any]:
        said = {place: "" for place in _PLACES}
        if problem:
            said[problem.place] = words.problem(str(problem))
        return {self.messages[place]: _shown(text) for place, text in said.items()}


def _shown(html: str) -> Any:
    return gr.update(value=html, visible=bool(html))


def _plot_title(title: str, sentence: str) -> None:
    gr.HTML(f'<div class="lsn-plot-title"><h3>{title}</h3><p>{sentence}</p></div>')
