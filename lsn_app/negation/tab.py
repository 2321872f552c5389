"""The tab on "not": which text CLIP chooses when one of them says no, for one photo and for many."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import gradio as gr

from lsn_app.negation import words as probe_words
from lsn_app.negation.answer import NegationRequest, ask_negated, ask_texts
from lsn_app.negation.batch_panel import EACH, NEWEST, SHARED, ManyPhotos
from lsn_app.negation.choice_panel import DEFAULT_TEXTS, ChoicePanel
from lsn_app.negation.contrast import choose_contrast
from lsn_app.negation.endpoint import build_endpoint
from lsn_app.negation.paper_figures import PRESETS, Preset, Round, play
from lsn_app.negation.prompt_maps import map_prompts
from lsn_app.negation.table_panel import DEFAULT_CLASSES, TablePanel
from lsn_app.serving.photos import Photo
from lsn_app.serving.requests import ZERO_SHOT, DetectorRequest, Place, Problem, problem_at
from lsn_app.shared.address import Address
from lsn_app.shared.components import Components, EventOptions, Updates, UpdatesOrSkip, Values
from lsn_app.shared.messages import Messages, heading, hidden_if_empty, tell
from lsn_app.shared.photo_input import PhotoInput, file_of
from lsn_app.shared.shared import Shared
from lsn_app.shared.turns import Question, Turn, Turns
from lsn_core import UserError

_CHOICE, _TABLE = "choice", "table"
_CHOICE_PLACES: tuple[Place, ...] = ("photo", "texts", "model")
_TABLE_PLACES: tuple[Place, ...] = ("classes", "model")


def build(shared: Shared) -> None:
    """Fills the tab and adds the public endpoint `/probe`."""
    _NegationTab(shared).connect()
    build_endpoint(shared.store)


@dataclass(frozen=True)
class _Begun:
    """What a photo is asked at once: the choice and the table."""

    turn: Turn
    choice: Question
    table: Question

    @classmethod
    def of(cls, turn: Turn) -> _Begun:
        return cls(turn, turn.ask(_CHOICE), turn.ask(_TABLE))


class _NegationTab:
    """The tab's components, and the functions that its events call."""

    def __init__(self, shared: Shared) -> None:
        self.shared, self.store, self.page = shared, shared.store, shared.page
        self.turns = Turns()
        gr.HTML(
            "<p>Does CLIP understand “not”? It chooses the text that fits a photo better: put a “not” into one of them."
            "</p>",
            elem_id="not-title",
            padding=False,
        )
        self.choice = ChoicePanel(bool(self.store.detectors))
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                self.photo = PhotoInput("not", height=260)
                self.photo.build()
                self.photo.build_credits()
            with gr.Column(scale=3, min_width=300):
                self.choice.build_texts()
        heading(
            "One photo, many ways to say no",
            "Every class with and without “not”, asked of the photo above; the best fit stands first. A text is marked "
            "wrong where a false one fits at least as well as a true one.",
        )
        self.table = TablePanel(self.store)
        self.messages: Messages = {
            "photo": self.photo.message,
            "texts": self.choice.texts_message,
            **self.table.messages,
        }
        heading(
            "Many photos at once",
            "Each photo chooses between “a photo of a X” and “not a photo of a X” for every class X above "
            "(Figures 9 to 12 of the paper). A zip of class folders (cat/1.jpg, …) brings its classes along.",
        )
        self.asked = {*self.choice.texts, *self.table.inputs}
        self.many = ManyPhotos(self.store, self.asked, self._request, self.table.classes)
        self.address = Address(
            "not",
            "photo",
            "#not-credit",
            {
                "text1": (self.choice.texts[0], DEFAULT_TEXTS[0]),
                "text2": (self.choice.texts[1], DEFAULT_TEXTS[1]),
                "about": (self.table.classes, DEFAULT_CLASSES),
                "shows": (self.table.truth, ""),
                "prompts": (self.table.detector, ZERO_SHOT),
            },
        )

    def _request(self, values: Values) -> NegationRequest:
        """What is asked, in the values of `asked`; of the photo in its state, where that is among them."""
        table = self.table
        return NegationRequest(
            values.get(self.photo.state),
            (values[self.choice.texts[0]], values[self.choice.texts[1]]),
            DetectorRequest(values[table.classes], values[table.detector], values[table.backbone]),
            values[table.truth],
        )

    # -- events -------------------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Connects the components to what they ask for."""
        table, many = self.table, self.many
        question = {self.photo.state, *self.asked}
        chosen = [self.choice.card, *(self.messages[place] for place in _CHOICE_PLACES)]
        everything = list(dict.fromkeys([*self.photo.outputs, *self.choice.texts, table.truth, *chosen, *table.filled]))
        # preprocess=False: Gradio's own would open the file with Pillow; open_image is to be the only one who does.
        follow = partial(self.address.follow, figure=None)
        uploaded = {self.photo.image, *self.asked}
        follow(self.photo.image.upload(self.take_photo, uploaded, everything, preprocess=False, **EACH))
        own = {self.photo.own, *self.asked}
        follow(self.photo.own.upload(self.take_own, own, everything, preprocess=False, **EACH))
        follow(self.photo.image.clear(self.drop_photo, None, everything, **EACH))
        follow(self.photo.gallery.select(self.take_example, self.asked, everything, **EACH))
        for button, preset in zip(self.choice.presets, PRESETS, strict=True):
            pressed = button.click(self.showing(preset), self.asked, everything, **EACH)
            self.address.follow(pressed, figure=str(preset.figure), text1=None, text2=None, shows=None, photo=None)
        linked = list(dict.fromkeys([*table.outputs, table.detector, *everything]))
        follow(self.choice.learning.click(self.show_learning, self.asked, linked, **SHARED))
        mapped = self.choice.maps.click(self.show_maps, self.asked, linked, **SHARED)
        self.address.follow(mapped, figure="2", text1=None, text2=None, shows=None, photo=None)
        asking = [self.choice.ask_button.click, *(text.submit for text in self.choice.texts)]
        follow(gr.on(asking, self.choose, question, chosen, **NEWEST))
        follow(self.choice.negate_button.click(self.negate, question, [*chosen, *self.choice.texts], **NEWEST))
        # Only the tables wear the progress overlay: over the links it would swallow the click that left a textbox.
        tabulating: EventOptions = {
            "fn": self.tabulate,
            "inputs": question,
            "outputs": table.filled,
            "show_progress_on": [table.written, table.learned],
            **NEWEST,
        }
        follow(gr.on([table.truth.submit, table.truth.blur], **tabulating))
        asked_about = gr.on([table.classes.submit, table.classes.blur], **tabulating)
        follow(asked_about)
        many.count_after(asked_about)
        for event in (table.detector.input, table.backbone.input):
            picked = event(self.choose_prompts, [table.detector, table.backbone], table.outputs, **NEWEST)
            follow(picked)
            many.count_after(picked.then(**tabulating))
        table.backbone.change(self.choose_again, question, chosen, **NEWEST)
        many.count_after(many.take_after(many.files.change).then(**tabulating))
        self.shared.tab.select(table.offer, self.shared.owner, table.detector, **SHARED)
        self.address.begin(self.page.load(self.open_link, self.asked, linked, show_progress="hidden", **SHARED))

    def open_link(self, request: gr.Request, values: Values) -> UpdatesOrSkip:
        """What a link asks for: `?tab=not&figure=3`, or `?tab=not&text1=...&text2=...&about=cat,dog&photo=cat.jpg`.

        A photo that was given before this is answered stays, and what was asked about it.
        """
        begun = _Begun.of(self.turns.opening(request.session_hash))
        query = {name: str(value)[:10_000] for name, value in request.query_params.items()}
        if query.get("figure") == "2":
            return self._still(begun, self._show_learned(begun, values, maps=True))
        if preset := {str(preset.figure): preset for preset in PRESETS}.get(query.get("figure", "")):
            return self._still(begun, self._show_preset(preset, begun, values))
        if query.get("tab") != "not":
            return gr.skip()
        table = self.table
        fields = {
            "text1": self.choice.texts[0],
            "text2": self.choice.texts[1],
            "about": table.classes,
            "shows": table.truth,
        }
        wanted: Updates = {part: query[name] for name, part in fields.items() if name in query}
        if query.get("prompts") in self.store.detectors:
            wanted[table.detector] = query["prompts"]
        asked = {**values, **wanted}
        updates = wanted | table.choose(asked[table.detector], asked[table.backbone])
        updates[table.classes] = {**updates[table.classes], "value": asked[table.classes]}
        if example := self.photo.find(query.get("photo", "")):
            updates |= self._with_photo(begun, *self.photo.example(example), self._request(asked))
        return self._still(begun, updates)

    def drop_photo(self, request: gr.Request) -> Updates:
        """The page without a photo."""
        self.turns.begin(request.session_hash).take(None)
        return self._without_photo()

    def _without_photo(self) -> Updates:
        return {
            self.choice.card: probe_words.nothing_yet(),
            self.table.truth: "",
            **self.table.empty(None),
            **self.photo.drop(),
        }

    def take_photo(self, values: Values, request: gr.Request) -> UpdatesOrSkip:
        """An uploaded photo; what it shows is not known."""
        begun = self._begin(request)
        return self._take_photo(begun, *self.photo.upload(values[self.photo.image]), values)

    def take_own(self, values: Values, request: gr.Request) -> UpdatesOrSkip:
        """A photo that was chosen by the button; what it shows is not known."""
        begun = self._begin(request)
        return self._take_photo(begun, *self.photo.take(*file_of(values[self.photo.own])), values)

    def _begin(self, request: gr.Request) -> _Begun:
        return _Begun.of(self.turns.begin(request.session_hash))

    def _still(self, begun: _Begun, updates: Updates) -> UpdatesOrSkip:
        """The updates of a photo, without what a newer photo or question has taken the place of."""
        if begun.turn.over:
            return gr.skip()
        newer: Components = []
        if begun.choice.over:
            newer += [self.choice.card, *self.choice.texts, self.messages["texts"]]
        if begun.table.over:
            newer += [self.table.truth, *self.table.filled]
        return {part: update for part, update in updates.items() if part not in newer}

    def _take_photo(self, begun: _Begun, photo: Photo | None, updates: Updates, values: Values) -> UpdatesOrSkip:
        begun.turn.take(photo)
        if photo is None:
            return self._still(begun, {**self._without_photo(), **updates})
        request = self._request({**values, self.table.truth: ""})
        try:
            request.open_encoder(self.store).encode_photo(photo)
        except UserError as error:
            begun.turn.take(None)
            return self._still(begun, {**self._without_photo(), **self.photo.refuse(str(error))})
        except Problem:
            pass  # the model cannot be had, which the answers below say
        return self._still(begun, {self.table.truth: "", **self._with_photo(begun, photo, updates, request)})

    def take_example(self, event: gr.SelectData, values: Values, request: gr.Request) -> UpdatesOrSkip:
        """The example that was clicked."""
        begun = self._begin(request)
        example = self.photo.examples[int(event.index)]
        asked = self._request({**values, self.table.truth: example.label})
        updates = self._with_photo(begun, *self.photo.example(example), asked)
        return self._still(begun, {self.table.truth: example.label, **updates})

    def _with_photo(self, begun: _Begun, photo: Photo, updates: Updates, request: NegationRequest) -> Updates:
        begun.turn.take(photo)
        request = replace(request, photo=photo)
        return {**self.table.fill(request), **updates, **self._chosen(request)}

    def showing(self, preset: Preset) -> Callable[..., UpdatesOrSkip]:
        """Of an event: shows a figure of the paper, with its photo, its texts, and what this model chooses."""

        def show(values: Values, request: gr.Request) -> UpdatesOrSkip:
            begun = self._begin(request)
            return self._still(begun, self._show_preset(preset, begun, values))

        return show

    def _show_preset(self, preset: Preset, begun: _Begun, values: Values) -> Updates:
        example = self.photo.find(preset.photo)
        if example is None:
            begun.turn.keep()
            missing = Problem("photo", f"The example photo {preset.photo} is missing here.")
            return tell(self.messages, _CHOICE_PLACES, missing)
        photo, updates = self.photo.example(example)
        begun.turn.take(photo)
        request = replace(self._request({**values, self.table.truth: preset.truth}), photo=photo)
        updates = {self.table.truth: preset.truth, **self.table.fill(request), **updates}
        try:
            encoder = request.open_encoder(self.store)
            with problem_at("photo"):
                feature = encoder.encode_photo(photo)
            rounds = play(preset, encoder, feature)
        except Problem as problem:
            return {**updates, **tell(self.messages, _CHOICE_PLACES, problem)}
        updates |= dict(zip(self.choice.texts, rounds[-1].choice.texts, strict=True))
        return {
            **updates,
            self.choice.card: probe_words.rounds_card(rounds, preset),
            self.messages["texts"]: hidden_if_empty(""),
        }

    def show_learning(self, values: Values, request: gr.Request) -> UpdatesOrSkip:
        """The photo and the detector on which learning changes most."""
        begun = self._begin(request)
        return self._still(begun, self._show_learned(begun, values))

    def show_maps(self, values: Values, request: gr.Request) -> UpdatesOrSkip:
        """The same, and where the learned prompts react."""
        begun = self._begin(request)
        return self._still(begun, self._show_learned(begun, values, maps=True))

    def _show_learned(self, begun: _Begun, values: Values, maps: bool = False) -> Updates:
        try:
            with problem_at("photo"):
                drawn = map_prompts(self.store, self.photo.examples) if maps else None
        except Problem as problem:
            begun.turn.keep()
            return tell(self.messages, _CHOICE_PLACES, problem)
        contrast = drawn.contrast if drawn else choose_contrast(self.store, self.photo.examples)
        if contrast is None:
            begun.turn.keep()
            missing = Problem("photo", "There is no shipped detector here that knows one of the examples.")
            return tell(self.messages, _CHOICE_PLACES, missing)
        table = self.table
        asked: Updates = {table.detector: contrast.label, table.truth: contrast.truth}
        updates = asked | table.choose(contrast.label, values[table.backbone])
        updates |= self._with_photo(begun, *self.photo.example(contrast.example), self._request({**values, **asked}))
        card = probe_words.maps_card(drawn) if drawn else probe_words.contrast_card(contrast)
        return {**updates, self.choice.card: card}

    def choose(self, values: Values, request: gr.Request) -> UpdatesOrSkip:
        """The model's choice between the two texts."""
        question, asked = self._asked(_CHOICE, values, request)
        return question.unless_over(self._chosen(asked))

    def choose_again(self, values: Values, request: gr.Request) -> UpdatesOrSkip:
        """The choice of another model; without a photo, nothing changes."""
        question, asked = self._asked(_CHOICE, values, request)
        return gr.skip() if asked.photo is None else question.unless_over(self._chosen(asked))

    def choose_prompts(self, label: str, backbone: str, request: gr.Request) -> UpdatesOrSkip:
        """The inputs that the chosen detector has a use for."""
        return self.turns.ask(request.session_hash, "prompts").unless_over(self.table.choose(label, backbone))

    def _asked(self, topic: str, values: Values, request: gr.Request) -> tuple[Question, NegationRequest]:
        """The question, and what is asked of the newest photo, of which the page may not know yet."""
        question, asked = self.turns.ask(request.session_hash, topic), self._request(values)
        return question, replace(asked, photo=question.turn.photo(asked.photo))

    def _chosen(self, request: NegationRequest) -> Updates:
        def card(photo: Photo) -> str:
            choice = ask_texts(request.open_encoder(self.store), photo, request.texts)
            return probe_words.rounds_card([Round(choice)])

        return self._choice(request.photo, card)

    def negate(self, values: Values, request: gr.Request) -> UpdatesOrSkip:
        """The choice before and after "not" was put before the text that lost."""
        question, asked = self._asked(_CHOICE, values, request)
        updates: Updates = {}

        def compare(photo: Photo) -> str:
            before, after = ask_negated(asked.open_encoder(self.store), photo, asked.texts)
            updates.update(zip(self.choice.texts, after.texts, strict=True))
            return probe_words.compare_choices(before, after)

        return question.unless_over(self._choice(asked.photo, compare) | updates)

    def _choice(self, photo: Photo | None, card: Callable[[Photo], str]) -> Updates:
        try:
            if photo is None:
                raise Problem("photo", "There is no photo yet: drop one here, or pick an example.")
            return {self.choice.card: card(photo), **tell(self.messages, _CHOICE_PLACES)}
        except Problem as problem:
            return {self.choice.card: probe_words.nothing_yet(), **tell(self.messages, _CHOICE_PLACES, problem)}

    def tabulate(self, values: Values, request: gr.Request) -> UpdatesOrSkip:
        """The table of classes and wordings about a photo, beside that of the chosen detector."""
        question, asked = self._asked(_TABLE, values, request)
        return question.unless_over(self.table.fill(asked))
