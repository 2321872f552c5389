"""The tab on "not": which text CLIP chooses when one of them says no, for one photo and for many."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import gradio as gr
from gradio.data_classes import FileData

from lsn_app.negation import words as probe_words
from lsn_app.negation.answer import NegationRequest, ask_negated, ask_texts, open_prompts, probe_line
from lsn_app.negation.batch_panel import SHARED, ManyPhotos
from lsn_app.negation.choice_panel import DEFAULT_TEXTS, ChoicePanel
from lsn_app.negation.contrast import choose_contrast
from lsn_app.negation.paper_figures import PRESETS, Preset, Round, play
from lsn_app.negation.table_panel import DEFAULT_CLASSES, TablePanel
from lsn_app.serving.photos import Photo
from lsn_app.serving.requests import ZERO_SHOT, DetectorRequest, Place, Problem, problem_at
from lsn_app.shared.address import Address
from lsn_app.shared.components import EventOptions, Updates, UpdatesOrSkip, Values
from lsn_app.shared.messages import Messages, heading, hidden_if_empty, tell
from lsn_app.shared.photo_input import PhotoInput, file_of
from lsn_app.shared.shared import Shared
from lsn_core import UserError
from lsn_core.negation import negation_table

_CHOICE_PLACES: tuple[Place, ...] = ("photo", "texts", "model")
_TABLE_PLACES: tuple[Place, ...] = ("classes", "model")


def build(shared: Shared) -> None:
    """Fills the tab and adds the public endpoint `/probe`."""
    store = shared.store
    _NegationTab(shared).connect()

    def probe(image: FileData, texts: list[str]) -> dict[str, Any]:
        """Has CLIP choose the text that describes a photo, such as one with and one without "not".

        Args:
            image: the photo (JPEG, PNG, WebP, BMP, GIF or TIFF), uploaded here or as a data URL; no address is fetched.
            texts: two or more texts to choose from.

        Returns:
            file, texts, cosines and probabilities (at the model's own temperature) in the order of the texts, chosen
            (the text that fits best), error (a sentence where there is no choice, else null).
        """
        return probe_line(store, *file_of(image), texts)

    gr.api(probe, api_name="probe", concurrency_id="model", concurrency_limit=2)


class _NegationTab:
    """The tab's components, and the functions that its events call."""

    def __init__(self, shared: Shared) -> None:
        self.shared, self.store, self.page = shared, shared.store, shared.page
        gr.HTML(
            "<h2>Does CLIP understand “not”?</h2><p>It chooses the text that fits a photo better. Put a “not” into one "
            "of them, and see whether it still chooses right.</p>",
            elem_classes="not-heading",
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
            "(Figures 9 to 12 of the paper).",
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
        tables = [
            table.marked,
            table.written,
            table.learned,
            table.learned_column,
            table.table_link,
            *(self.messages[place] for place in _TABLE_PLACES),
        ]
        everything = list(dict.fromkeys([*self.photo.outputs, *self.choice.texts, table.truth, *chosen, *tables]))
        # preprocess=False: Gradio's own would open the file with Pillow; open_image is to be the only one who does.
        follow = partial(self.address.follow, figure=None)
        uploaded = {self.photo.image, *self.asked}
        follow(self.photo.image.upload(self.take_photo, uploaded, everything, preprocess=False, **SHARED))
        own = {self.photo.own, *self.asked}
        follow(self.photo.own.upload(self.take_own, own, everything, preprocess=False, **SHARED))
        follow(self.photo.image.clear(self.drop_photo, None, everything, **SHARED))
        follow(self.photo.gallery.select(self.take_example, self.asked, everything, **SHARED))
        for button, preset in zip(self.choice.presets, PRESETS, strict=True):
            pressed = button.click(partial(self.show_preset, preset), self.asked, everything, **SHARED)
            self.address.follow(pressed, figure=str(preset.figure), text1=None, text2=None, shows=None, photo=None)
        linked = list(dict.fromkeys([*table.outputs, table.detector, *everything]))
        follow(self.choice.learning.click(self.show_learning, self.asked, linked, **SHARED))
        asking = [self.choice.ask_button.click, *(text.submit for text in self.choice.texts)]
        follow(gr.on(asking, self.choose, question, chosen, trigger_mode="always_last", **SHARED))
        follow(self.choice.negate_button.click(self.negate, question, [*chosen, *self.choice.texts], **SHARED))
        # Only the tables wear the progress overlay: over the links it would swallow the click that left a textbox.
        tabulating: EventOptions = {
            "fn": self.tabulate,
            "inputs": question,
            "outputs": tables,
            "show_progress_on": [table.written, table.learned],
            "trigger_mode": "always_last",
            **SHARED,
        }
        follow(gr.on([table.truth.submit, table.truth.blur], **tabulating))
        asked_about = gr.on([table.classes.submit, table.classes.blur], **tabulating)
        follow(asked_about)
        many.count_after(asked_about)
        for event in (table.detector.input, table.backbone.input):
            picked = event(table.choose, [table.detector, table.backbone], table.outputs, **SHARED)
            follow(picked)
            many.count_after(picked.then(**tabulating))
        table.backbone.change(self.choose_again, question, chosen, **SHARED)
        many.count_after(many.take_after(many.files.change).then(**tabulating))
        self.shared.tab.select(table.offer, self.shared.owner, table.detector, **SHARED)
        self.address.begin(self.page.load(self.open_link, self.asked, linked, show_progress="hidden", **SHARED))

    def open_link(self, request: gr.Request, values: Values) -> UpdatesOrSkip:
        """What a link asks for: `?tab=not&figure=3`, or `?tab=not&text1=...&text2=...&about=cat,dog&photo=cat.jpg`."""
        query = {name: str(value)[:10_000] for name, value in request.query_params.items()}
        if preset := {str(preset.figure): preset for preset in PRESETS}.get(query.get("figure", "")):
            return self.show_preset(preset, values)
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
            updates |= self._with_photo(*self.photo.example(example), self._request(asked))
        return updates

    def drop_photo(self) -> Updates:
        """The page without a photo."""
        return {
            self.choice.card: probe_words.nothing_yet(),
            self.table.truth: "",
            **self._no_tables(None),
            **self.photo.drop(),
        }

    def take_photo(self, values: Values) -> Updates:
        """An uploaded photo; what it shows is not known."""
        return self._take_photo(*self.photo.upload(values[self.photo.image]), values)

    def take_own(self, values: Values) -> Updates:
        """A photo that was chosen by the button; what it shows is not known."""
        return self._take_photo(*self.photo.take(*file_of(values[self.photo.own])), values)

    def _take_photo(self, photo: Photo | None, updates: Updates, values: Values) -> Updates:
        if photo is None:
            return {**self.drop_photo(), **updates}
        request = self._request({**values, self.table.truth: ""})
        try:
            request.open_encoder(self.store).encode_photo(photo)
        except UserError as error:
            return {**self.drop_photo(), **self.photo.refuse(str(error))}
        except Problem:
            pass  # the model cannot be had, which the answers below say
        return {self.table.truth: "", **self._with_photo(photo, updates, request)}

    def take_example(self, event: gr.SelectData, values: Values) -> Updates:
        """The example that was clicked."""
        example = self.photo.examples[int(event.index)]
        request = self._request({**values, self.table.truth: example.label})
        return {self.table.truth: example.label, **self._with_photo(*self.photo.example(example), request)}

    def _with_photo(self, photo: Photo, updates: Updates, request: NegationRequest) -> Updates:
        request = replace(request, photo=photo)
        return {**self._tabulated(request), **updates, **self._chosen(request)}

    def show_preset(self, preset: Preset, values: Values) -> Updates:
        """A figure of the paper: its photo, its texts, and what this model chooses."""
        example = self.photo.find(preset.photo)
        if example is None:
            missing = Problem("photo", f"The example photo {preset.photo} is missing here.")
            return tell(self.messages, _CHOICE_PLACES, missing)
        photo, updates = self.photo.example(example)
        request = replace(self._request({**values, self.table.truth: preset.truth}), photo=photo)
        updates = {self.table.truth: preset.truth, **self._tabulated(request), **updates}
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

    def show_learning(self, values: Values) -> Updates:
        """The photo and the detector on which learning changes most."""
        contrast = choose_contrast(self.store, self.photo.examples)
        if contrast is None:
            missing = Problem("photo", "There is no shipped detector here that knows one of the examples.")
            return tell(self.messages, _CHOICE_PLACES, missing)
        table = self.table
        asked: Updates = {table.detector: contrast.label, table.truth: contrast.truth}
        updates = asked | table.choose(contrast.label, values[table.backbone])
        request = self._request({**values, **asked})
        updates |= self._with_photo(*self.photo.example(contrast.example), request)
        return {**updates, self.choice.card: probe_words.contrast_card(contrast)}

    def choose(self, values: Values) -> Updates:
        """The model's choice between the two texts."""
        return self._chosen(self._request(values))

    def choose_again(self, values: Values) -> UpdatesOrSkip:
        """The choice of another model; without a photo, nothing changes."""
        request = self._request(values)
        return gr.skip() if request.photo is None else self._chosen(request)

    def _chosen(self, request: NegationRequest) -> Updates:
        def card(photo: Photo) -> str:
            choice = ask_texts(request.open_encoder(self.store), photo, request.texts)
            return probe_words.rounds_card([Round(choice)])

        return self._choice(request.photo, card)

    def negate(self, values: Values) -> Updates:
        """The choice before and after "not" was put before the text that lost."""
        request = self._request(values)
        updates: Updates = {}

        def compare(photo: Photo) -> str:
            before, after = ask_negated(request.open_encoder(self.store), photo, request.texts)
            updates.update(zip(self.choice.texts, after.texts, strict=True))
            return probe_words.compare_choices(before, after)

        return self._choice(request.photo, compare) | updates

    def _choice(self, photo: Photo | None, card: Callable[[Photo], str]) -> Updates:
        try:
            if photo is None:
                raise Problem("photo", "There is no photo yet: drop one here, or pick an example.")
            return {self.choice.card: card(photo), **tell(self.messages, _CHOICE_PLACES)}
        except Problem as problem:
            return {self.choice.card: probe_words.nothing_yet(), **tell(self.messages, _CHOICE_PLACES, problem)}

    def tabulate(self, values: Values) -> Updates:
        """The table of classes and wordings about a photo, beside that of the chosen detector."""
        return self._tabulated(self._request(values))

    def _tabulated(self, request: NegationRequest) -> Updates:
        if request.photo is None:
            return self._no_tables(None)
        try:
            written, learned, encoder = open_prompts(self.store, request.detector)
            with problem_at("photo"):
                feature = encoder.encode_photo(request.photo)
        except Problem as problem:
            return self._no_tables(problem)
        tables = {"written": negation_table(written, feature, request.truth)}
        if learned is not None:
            # The same truth for both, so that the same texts are true.
            tables["learned"] = negation_table(learned, feature, request.truth or tables["written"].truth)
        table, label = self.table, request.detector.label
        return {
            table.marked: hidden_if_empty(probe_words.marked_for(tables["written"]) + probe_words.tally_note()),
            table.written: hidden_if_empty(probe_words.both_tables(tables["written"], "Written by hand")),
            table.learned: probe_words.both_tables(tables["learned"], f"Learned by {label}")
            if "learned" in tables
            else "",
            table.learned_column: gr.update(visible="learned" in tables),
            table.table_link: hidden_if_empty(probe_words.table_link(tables, request.photo.name)),
            **tell(self.messages, _TABLE_PLACES),
        }

    def _no_tables(self, problem: Problem | None) -> Updates:
        table, hidden = self.table, gr.update(visible=False)
        blank = (table.marked, table.written, table.learned_column, table.table_link)
        return {**dict.fromkeys(blank, hidden), **tell(self.messages, _TABLE_PLACES, problem)}
