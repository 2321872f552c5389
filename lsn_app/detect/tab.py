"""The Detect tab: one photo or many, the known classes, and whether a photo shows one of them."""

from __future__ import annotations

import gradio as gr

from lsn_app.detect import words as detect_words
from lsn_app.detect.answer import Answer, DetectRequest, ask
from lsn_app.detect.batch_panel import BatchPanel
from lsn_app.detect.calibration_panel import CalibrationPanel, CalibrationSet
from lsn_app.detect.details_panel import DetailsPanel
from lsn_app.detect.detector_choice import DetectorChoice
from lsn_app.detect.endpoints import build_endpoints
from lsn_app.detect.heatmap_panel import HeatMapPanel
from lsn_app.detect.link import read_link
from lsn_app.detect.opening import choose_opening
from lsn_app.serving.encoder import AT_ONCE
from lsn_app.serving.photos import Photo
from lsn_app.serving.requests import ZERO_SHOT, DetectorRequest, Place, Problem
from lsn_app.shared import words
from lsn_app.shared.address import Address
from lsn_app.shared.components import Event, EventOptions, Inputs, Updates, UpdatesOrSkip, Values
from lsn_app.shared.examples import Example, load_examples
from lsn_app.shared.messages import Messages, hidden_if_empty, tell
from lsn_app.shared.photo_input import PhotoInput, file_of
from lsn_app.shared.shared import Shared, detector_choices
from lsn_app.shared.turns import Question, Turn, Turns
from lsn_core import UserError
from lsn_core.calibration import DEFAULT_TPR

_SHARED: EventOptions = {"concurrency_id": "verdicts", "concurrency_limit": AT_ONCE, "api_visibility": "private"}
_NEWEST: EventOptions = {"trigger_mode": "always_last", **_SHARED}  # Gradio's default forgets what comes meanwhile
_EACH: EventOptions = {"trigger_mode": "multiple", **_SHARED}
_VERDICT, _CHOICE, _CALIBRATION, _MOVED = "verdict", "choice", "calibration", "moved"
_PLACES: tuple[Place, ...] = ("photo", "classes", "model", "calibration")
_TO_VERDICT = """() => {
    const verdict = document.querySelector("#lsn-verdict"), box = verdict.getBoundingClientRect();
    if (box.top >= 0 && box.bottom <= window.innerHeight) return;
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    verdict.scrollIntoView({behavior: calm ? "auto" : "smooth", block: "center"});
}"""


def build(shared: Shared) -> None:
    """Fills the tab and adds the public endpoints `/score` and `/heatmap`."""
    _DetectTab(shared).connect()
    build_endpoints(shared.store)


class _DetectTab:
    """The tab's components, and the functions that its events call."""

    def __init__(self, shared: Shared) -> None:
        self.shared, self.store, self.page = shared, shared.store, shared.page
        self.opening = choose_opening(self.store, load_examples())
        first = None if self.opening is None else self.opening.answer
        if self.opening is not None:
            shared.detector.value = self.opening.label
        self.turns = Turns()
        self.answer = gr.State(None)  # the Answer on the page, or None
        self.photo = PhotoInput("lsn", first=self.opening.example if self.opening else None)
        with gr.Row():
            with gr.Column(scale=1, min_width=300):
                self.photo.build()
                card = detect_words.verdict_card(first) if first else detect_words.empty_card()
                self.card = gr.HTML(card, elem_id="lsn-verdict-box", padding=False)
                compared = detect_words.baseline_card(first) if first else ""
                self.baseline = gr.HTML(compared, elem_id="lsn-baseline", padding=False)
            with gr.Column(scale=1, min_width=300):
                why = detect_words.reasons(first) if first else ""
                self.why = gr.HTML(why, elem_id="lsn-why", padding=False)
                self.choice = DetectorChoice(shared)
        with gr.Accordion("Detector and calibration", open=False, elem_id="lsn-settings"):
            self.choice.build_model()
            self.calibration = CalibrationPanel(self.store)
        self.details = DetailsPanel()
        self.tpr = self.calibration.tpr
        self.messages: Messages = {
            "photo": self.photo.message,
            **self.choice.messages,
            "calibration": self.calibration.message,
        }
        self.asked: Inputs = {*self.choice.inputs, self.tpr, self.calibration.state}
        self.heat_maps = HeatMapPanel(self.store, {self.photo.state, *self.asked}, self._request, self.turns)
        self.many = BatchPanel(self.store, self.photo.examples, self.asked, self._request, self.tpr, self.messages)
        self.photo.build_credits()
        names_alone = ("detector", ZERO_SHOT)
        self.address = Address(
            "detect",
            "example",
            "#lsn-credit",
            {
                "detector": (self.choice.detector, shared.detector.value),
                "classes": (self.choice.classes, ""),
                "backbone": (self.choice.backbone, self.store.default),
                "tpr": (self.tpr, DEFAULT_TPR),
            },
            only_with={"classes": names_alone, "backbone": names_alone},
        )

    def _request(self, values: Values) -> DetectRequest:
        """What is asked, in the values of `asked`; of the photo in its state, where that is among them."""
        wanted = DetectorRequest(
            values[self.choice.classes] or "", values[self.choice.detector], values[self.choice.backbone]
        )
        taken: CalibrationSet | None = values[self.calibration.state]
        if taken is not None and taken.belongs_to == wanted.identity:
            wanted = DetectorRequest(wanted.classes, wanted.label, wanted.backbone, taken.photos)
        return DetectRequest(values.get(self.photo.state), wanted, float(values[self.tpr]))

    # -- events -------------------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Connects the components to what they ask for."""
        choice, many, photo, calibration = self.choice, self.many, self.photo, self.calibration
        question = {photo.state, *self.asked}
        results = [
            self.answer,
            self.card,
            self.baseline,
            self.why,
            *self.details.outputs,
            self.tpr,
            *calibration.outputs,
            *self.messages.values(),
        ]
        everything = [*photo.outputs[:-1], *results]  # the photo's message is among the results
        self.about_photo = {*everything} - {*calibration.outputs}

        def photo_event(event: Event) -> None:
            self.heat_maps.follow(event)
            self.address.follow(event)

        def question_event(event: Event) -> None:
            photo_event(event)
            many.ask_after(event)

        # preprocess=False: Gradio's own would open the file with Pillow; open_image is to be the only one who does.
        for upload, take in ((photo.image, self.take_photo), (photo.own, self.take_own)):
            event = upload.upload(take, {upload, *self.asked}, everything, preprocess=False, **_EACH)
            event.then(None, js=_TO_VERDICT, api_visibility="private")
            photo_event(event)
        # The photo's own value is still the old one when it is cleared.
        photo_event(photo.image.clear(self.drop_photo, None, everything, **_EACH))
        picked = (
            photo.gallery.select(self.take_example, self.asked, everything, **_EACH),
            many.table.select(self.pick_photo, {many.photos, *self.asked}, everything, **_EACH),
        )
        for event in picked:
            event.then(None, js=_TO_VERDICT, api_visibility="private")
            photo_event(event)

        asking = [choice.classes.submit, choice.classes.blur, choice.ask_button.click]
        typed = gr.on(asking, self.ask_typed, question, [*results, choice.detector], **_NEWEST)
        question_event(typed)
        named = choice.names_file.upload(
            choice.take_names, choice.names_file, choice.classes, preprocess=False, **_SHARED
        )
        named = named.success(self.ask_typed, question, [*results, choice.detector], **_NEWEST)
        question_event(named)
        chosen = choice.detector.change(self.choose_detector, choice.detector, choice.outputs, **_NEWEST)
        question_event(chosen.then(self.ask_again, question, results, **_NEWEST))
        choice.upload.upload(
            choice.take_file,
            [choice.upload, self.shared.owner],
            [choice.detector, self.messages["model"]],
            preprocess=False,
            **_SHARED,
        )
        chosen = choice.backbone.input(
            lambda name: hidden_if_empty(words.backbone_note(name)),
            choice.backbone,
            choice.backbone_note,
            trigger_mode="always_last",
            api_visibility="private",
        )
        question_event(chosen.then(self.ask_again, question, results, **_NEWEST))
        files = (calibration.files.upload, calibration.files.delete, calibration.files.clear)
        given = {calibration.files, *self.asked}
        calibrated = gr.on(files, self.calibrate, given, calibration.outputs, preprocess=False, **_NEWEST)
        question_event(calibrated.then(self.ask_again, question, results, **_NEWEST))
        live: EventOptions = {
            "show_progress": "hidden",
            "trigger_mode": "always_last",
            "concurrency_limit": 8,
            "api_visibility": "private",
        }
        for slider, other in ((self.tpr, many.near), (many.near, self.tpr)):
            slider.input(None, slider, other, js="(rate) => rate", api_visibility="private")
            self.address.follow_slider("tpr", slider)
            moving = [self.card, self.why, self.details.scale]
            slider.input(self.move_threshold, [self.answer, slider], moving, **live)
            slider.input(many.move_threshold, [many.state, slider], many.moving, **live)
        many.connect()
        opened = self.page.load(
            self.open_link,
            {self.shared.owner, *question},
            list(dict.fromkeys([*choice.inputs, *choice.outputs, *everything])),
            show_progress="hidden",
            **_SHARED,
        )
        self.heat_maps.follow(opened)
        self.address.begin(opened)

    def drop_photo(self, request: gr.Request) -> Updates:
        """The page without a photo."""
        self.turns.begin(request.session_hash).take(None)
        return {**self._nothing(detect_words.empty_card()), **self._tell(None), **self.photo.drop()}

    def take_photo(self, values: Values, request: gr.Request) -> UpdatesOrSkip:
        """A photo that was dropped or pasted in its place."""
        question = self._begin(request)
        return self._take_photo(question, *self.photo.upload(values[self.photo.image]), values)

    def take_own(self, values: Values, request: gr.Request) -> UpdatesOrSkip:
        """A photo that was chosen by the button."""
        question = self._begin(request)
        return self._take_photo(question, *self.photo.take(*file_of(values[self.photo.own])), values)

    def pick_photo(self, event: gr.SelectData, values: Values, request: gr.Request) -> UpdatesOrSkip:
        """One of many photos, which was picked in their table."""
        batch = values[self.many.photos]
        if batch is None:
            return gr.skip()
        question = self._begin(request)
        try:
            taken = self.photo.take(*self.many.pick(batch, int(event.index)))
        except UserError as error:
            taken = None, self.photo.refuse(str(error))
        return self._take_photo(question, *taken, values)

    def _begin(self, request: gr.Request) -> Question:
        return self.turns.begin(request.session_hash).ask(_VERDICT)

    def _take_photo(self, question: Question, photo: Photo | None, updates: Updates, values: Values) -> UpdatesOrSkip:
        question.turn.take(photo)
        if photo is None:
            answer = {**self._nothing(detect_words.failed_card()), **self._tell(None)}
            del answer[self.photo.message]  # it says what is wrong with the photo
            return self._still(question, answer, updates)
        try:
            answer = self._answered(question, ask(self.store, self._request({**values, self.photo.state: photo})))
        except Problem as problem:
            answer = self._failed(problem)
            if problem.place == "photo":
                question.turn.take(None)
                updates = {**self.photo.drop(), self.photo.image: None, self.photo.message: answer[self.photo.message]}
        return self._still(question, answer, updates)

    def take_example(self, event: gr.SelectData, values: Values, request: gr.Request) -> UpdatesOrSkip:
        """The example that was clicked."""
        question = self._begin(request)
        photo = self._show_example(question.turn, self.photo.examples[int(event.index)])
        return self._still(question, self._ask(question, {**values, self.photo.state: photo[self.photo.state]}), photo)

    def _show_example(self, turn: Turn, example: Example) -> Updates:
        photo, updates = self.photo.example(example)
        turn.take(photo)
        return updates

    def _still(self, question: Question, answer: Updates, photo: Updates | None = None) -> UpdatesOrSkip:
        """The updates of a question and of its photo, without what newer ones have taken the place of."""
        return self._newest(question, answer, photo or {}) or gr.skip()

    def _newest(self, question: Question, answer: Updates, photo: Updates) -> Updates:
        turn = question.turn
        if not turn.is_newest(question):
            answer = {}
        if not turn.over:
            return {**photo, **answer}
        return {part: update for part, update in answer.items() if part not in self.about_photo}

    def open_link(self, request: gr.Request, values: Values) -> UpdatesOrSkip:
        """What a link asks for, see `read_link`; else the photo that the page opened with.

        A photo that was given before this is answered stays.
        """
        choice, turn = self.choice, self.turns.opening(request.session_hash)
        question = turn.ask(_VERDICT)
        choices = detector_choices(self.store, request.session_hash, values[self.shared.owner])
        updates: Updates = {choice.detector: gr.update(choices=choices)}
        if request.query_params.get("tab", "detect") != "detect":
            return {**updates, **self._newest(question, self._ask(question, values), {})}
        examples = {example.path.name: example for example in self.photo.examples}
        link = read_link(request.query_params, {label for _, label in choices}, self.store.choices, examples)
        parts = {choice.classes: link.classes, choice.backbone: link.backbone, self.tpr: link.tpr}
        asked: Updates = {part: value for part, value in parts.items() if value is not None}
        if link.label is not None:
            updates |= {**choice.choose(link.label), choice.detector: gr.update(choices=choices, value=link.label)}
            asked[choice.detector] = link.label
        updates |= {part: value for part, value in asked.items() if part is not choice.detector}
        values = {**values, **asked}
        if link.example:
            updates |= (shown := self._show_example(turn, examples[link.example]))
            values[self.photo.state] = shown[self.photo.state]
        answer = self._ask(question, values)
        if link.tpr is not None and self.tpr in answer:
            answer[self.tpr] = {**answer[self.tpr], "value": link.tpr}
        updates |= answer
        if link.wrong:
            updates[self.messages["model"]] = hidden_if_empty(words.problem(link.wrong))
        return {choice.detector: gr.update(choices=choices), **self._newest(question, updates, {})}

    def ask_typed(self, values: Values, request: gr.Request) -> UpdatesOrSkip:
        """The answer with the classes as typed: by their names alone, where the chosen detector has others."""
        if not self.choice.is_edited(values[self.choice.classes], values[self.choice.detector]):
            return self.ask_again(values, request)
        question = self.turns.ask(request.session_hash, _VERDICT)
        answer = self._ask(question, {**values, self.choice.detector: ZERO_SHOT})
        return self._still(question, {**answer, self.choice.detector: ZERO_SHOT})

    def ask_again(self, values: Values, request: gr.Request) -> UpdatesOrSkip:
        """The answer about the photo at hand; without one, nothing changes, as one may just be on its way."""
        question = self.turns.ask(request.session_hash, _VERDICT)
        return self._still(question, self._ask(question, values))

    def choose_detector(self, label: str, request: gr.Request) -> UpdatesOrSkip:
        """The inputs as the chosen detector has them."""
        return self.turns.ask(request.session_hash, _CHOICE).unless_over(self.choice.choose(label))

    def _ask(self, question: Question, values: Values) -> Updates:
        request = self._request({**values, self.photo.state: question.turn.photo(values.get(self.photo.state))})
        dropped = self.calibration.drop_unless_for(values[self.calibration.state], request.detector)
        if request.photo is None:
            return {**dropped, **self._tell(None)}
        try:
            return {**dropped, **self._answered(question, ask(self.store, request))}
        except Problem as problem:
            return {**dropped, **self._failed(problem)}

    def calibrate(
        self,
        values: Values,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> UpdatesOrSkip:
        """The calibration photos that were added or removed."""
        question = self.turns.ask(request.session_hash, _CALIBRATION)
        files = [file_of(item) for item in values[self.calibration.files] or ()]
        updates = self.calibration.take(files, self._request(values).detector, progress)
        # Of this session: a newer photo needs the calibration as much.
        return updates if question.turn.is_newest(question) else gr.skip()

    def move_threshold(self, answer: Answer | None, tpr: float, request: gr.Request) -> UpdatesOrSkip:
        """The verdict at another wanted true positive rate; what does not depend on it stays."""
        return self.turns.now(request.session_hash).move(answer, float(tpr), self._verdict)

    def _verdict(self, answer: Answer) -> Updates:
        return {
            self.card: detect_words.verdict_card(answer),
            self.why: detect_words.reasons(answer),
            self.details.scale: self.details.draw_scale(answer),
        }

    def _answered(self, question: Question, answer: Answer) -> Updates:
        answer = question.answered(answer)
        return {
            self.answer: answer,
            **self.details.show(answer),
            **self._verdict(answer),
            self.baseline: detect_words.baseline_card(answer),
            self.tpr: gr.update(interactive=answer.detector.calibration is not None),
            **self._tell(None),
        }

    def _failed(self, problem: Problem) -> Updates:
        return {**self._nothing(detect_words.failed_card()), **self._tell(problem)}

    def _nothing(self, card: str) -> Updates:
        return {self.answer: None, self.card: card, self.baseline: "", self.why: "", **self.details.hide()}

    def _tell(self, problem: Problem | None) -> Updates:
        return tell(self.messages, _PLACES, problem)
