"""The tab on "not": which text CLIP chooses when one of them says no, for one photo and for many."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import gradio as gr
from gradio.data_classes import FileData

from lsn_app.negation import words as probe_words
from lsn_app.negation.answer import ask_negated, ask_texts, open_prompts, probe_line
from lsn_app.negation.batch_panel import SHARED, ManyPhotos
from lsn_app.negation.paper_figures import PRESETS, Preset, Round, play
from lsn_app.negation.table_panel import DEFAULT_CLASSES, TablePanel
from lsn_app.serving.encoder import Encoder
from lsn_app.serving.photos import Photo
from lsn_app.serving.requests import ZERO_SHOT, Problem, open_detector, problem_at
from lsn_app.serving.store import Store
from lsn_app.shared import words
from lsn_app.shared.address import Address
from lsn_app.shared.components import EventOptions, Updates, UpdatesOrSkip, UploadedFile, Value
from lsn_app.shared.messages import heading, shown_if
from lsn_app.shared.photo_input import PhotoInput, file_of
from lsn_core import UserError
from lsn_core.negation import negation_table

DEFAULT_TEXTS = ("a photo of a dog", "not a photo of a dog")


def build(store: Store, page: gr.Blocks) -> None:
    """Fills the tab and adds the public endpoint `/probe`."""
    _ProbeTab(store).connect(page)

    def probe(image: FileData, texts: list[str]) -> dict[str, Any]:
        """Has CLIP choose the text that describes a photo, such as one with and one without "not".

        Args:
            image: the photo (JPEG, PNG, WebP, BMP, GIF or TIFF), uploaded here or as a data URL; no address is fetched.
            texts: two or more texts to choose from.

        Returns:
            file, texts, cosines and probabilities (at the model's own temperature) in the order of the texts, chosen
            (the text that fits best), error (a sentence where there is no choice, else null).
        """
        given: Any = image  # Gradio hands over the plain dictionary
        return probe_line(store, *file_of(given if isinstance(given, dict) else given.model_dump()), texts)

    gr.api(probe, api_name="probe", concurrency_id="model", concurrency_limit=2)


class _ProbeTab:
    """The tab's components, and the functions that its events call."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.messages: dict[str, gr.HTML] = {}
        gr.Markdown(
            "Give CLIP a photo and two texts, and it chooses the one that fits better. Put a “not” into one of them, "
            "and see whether it still chooses right."
        )
        self._build_presets()
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                self.photo = PhotoInput("not", height=260)
                self.messages["photo"] = self.photo.message
            with gr.Column(scale=3, min_width=300):
                self._build_texts()
        heading(
            "One photo, many ways to say no",
            "Every class with and without “not”, asked of the photo above; the best fit stands first. A text is marked "
            "wrong where a false one fits at least as well as a true one.",
        )
        self.table = TablePanel(store, self.messages)
        heading(
            "Many photos at once",
            "Each photo chooses between “a photo of a X” and “not a photo of a X” for every class X above "
            "(Figures 9 to 12 of the paper).",
        )
        self.many = ManyPhotos(store)
        self.address = Address(
            "not",
            "photo",
            "#not-credit",
            {
                "text1": (self.texts[0], DEFAULT_TEXTS[0]),
                "text2": (self.texts[1], DEFAULT_TEXTS[1]),
                "about": (self.table.classes, DEFAULT_CLASSES),
                "shows": (self.table.truth, ""),
                "prompts": (self.table.detector, ZERO_SHOT),
            },
        )

    def _build_presets(self) -> None:
        gr.HTML('<h3 class="lsn-heading">Ask what the paper asks: one click, with a photo of its own</h3>')
        with gr.Row():
            self.presets = [
                gr.Button(
                    f"Figure {preset.figure}: {preset.title}",
                    size="sm",
                    min_width=160,
                    elem_id=f"not-figure-{preset.figure}",
                )
                for preset in PRESETS
            ]

    def _build_texts(self) -> None:
        gr.HTML('<h3 class="lsn-heading">Or write two texts, and bring a photo</h3>')
        with gr.Row():
            self.texts = [
                gr.Textbox(text, label=label, lines=1, max_lines=3, min_width=200, elem_id=f"not-text-{place}")
                for place, (label, text) in enumerate(zip(("One text", "Another"), DEFAULT_TEXTS, strict=True), start=1)
            ]
        self._message("texts")
        with gr.Row():
            self.ask_button = gr.Button("Which one fits?", variant="primary", size="sm", elem_id="not-ask")
            self.negate_button = gr.Button("Put “not” before the loser", size="sm", elem_id="not-negate")
        self.card = gr.HTML(probe_words.nothing_yet(), elem_id="not-choice")

    def _message(self, place: str) -> None:
        self.messages[place] = gr.HTML(visible=False, elem_id=f"not-message-{place}")

    # -- events -------------------------------------------------------------------------------------------------------

    def connect(self, page: gr.Blocks) -> None:
        """Connects the components to what they ask for."""
        about = [self.table.classes, self.table.truth, self.table.detector, self.table.backbone]
        asked = [*self.texts, *about]
        chosen = [self.card, *(self.messages[place] for place in ("photo", "texts", "model"))]
        tables = [
            self.table.marked,
            self.table.written,
            self.table.learned,
            self.table.learned_column,
            self.table.table_link,
            *(self.messages[place] for place in ("classes", "model")),
        ]
        shown = list(dict.fromkeys([*self.photo.outputs, *self.texts, self.table.truth, *chosen, *tables]))
        # preprocess=False: Gradio's own would open the file with Pillow; open_image is to be the only one who does.
        follow = partial(self.address.follow, figure=None)
        follow(self.photo.image.upload(self.take_photo, [self.photo.image, *asked], shown, preprocess=False, **SHARED))
        follow(self.photo.image.clear(self.drop_photo, None, shown, **SHARED))
        follow(self.photo.gallery.select(self.take_example, asked, shown, **SHARED))
        for button, preset in zip(self.presets, PRESETS, strict=True):
            pressed = button.click(lambda *asked, p=preset: self.show_preset(p, *asked), about, shown, **SHARED)
            self.address.follow(pressed, figure=str(preset.figure), text1=None, text2=None, shows=None, photo=None)
        asking = [self.ask_button.click, *(text.submit for text in self.texts)]
        follow(gr.on(asking, self.choose, [self.photo.state, *asked], chosen, trigger_mode="always_last", **SHARED))
        follow(self.negate_button.click(self.negate, [self.photo.state, *asked], [*chosen, *self.texts], **SHARED))
        # Only the tables wear the progress overlay: over the links it would swallow the click that left a textbox.
        tabulating: EventOptions = {
            "fn": self.tabulate,
            "inputs": [self.photo.state, *about],
            "outputs": tables,
            "show_progress_on": [self.table.written, self.table.learned],
            "trigger_mode": "always_last",
            **SHARED,
        }
        counting: EventOptions = self.many.counting(self.table.classes, self.table.detector, self.table.backbone)
        follow(gr.on([self.table.truth.submit, self.table.truth.blur], **tabulating))
        asked_about = gr.on([self.table.classes.submit, self.table.classes.blur], **tabulating)
        follow(asked_about)
        asked_about.then(**counting)
        choice = [self.table.classes, self.table.own_classes, self.table.backbone, self.table.backbone_note]
        for event in (self.table.detector.input, self.table.backbone.input):
            picked = event(self.choose_model, [self.table.detector, self.table.backbone], choice, **SHARED)
            follow(picked)
            picked.then(**tabulating).then(**counting)
        self.table.backbone.change(self.choose_again, [self.photo.state, *asked], chosen, **SHARED)
        self.many.files.change(
            self.many.take_files,
            [self.many.files, self.table.classes, self.table.detector],
            self.table.classes,
            preprocess=False,
            **SHARED,
        ).then(**tabulating).then(**counting)
        linked = list(dict.fromkeys([*choice, self.table.detector, *shown]))
        self.address.begin(page.load(self.open_link, asked, linked, show_progress="hidden", **SHARED))

    def open_link(self, request: gr.Request, text_1: str, text_2: str, *about: Value) -> UpdatesOrSkip:
        """What a link asks for: `?tab=not&figure=3`, or `?tab=not&text1=...&text2=...&about=cat,dog&photo=cat.jpg`."""
        query = {name: str(value)[:10_000] for name, value in request.query_params.items()}
        if preset := {str(preset.figure): preset for preset in PRESETS}.get(query.get("figure", "")):
            return self.show_preset(preset, *about)
        if query.get("tab") != "not":
            return gr.skip()
        label = query["prompts"] if query.get("prompts") in self.store.detectors else about[2]
        texts = query.get("text1", text_1), query.get("text2", text_2)
        wanted: list[Value] = [query.get("about", about[0]), query.get("shows", about[1]), label, about[3]]
        found: Updates = dict(
            zip([*self.texts, self.table.truth, self.table.detector], [*texts, wanted[1], label], strict=True)
        )
        found |= self.choose_model(label, about[3])
        found[self.table.classes] = {**found[self.table.classes], "value": wanted[0]}
        if example := self.photo.find(query.get("photo", "")):
            photo, shown = self.photo.example(example)
            found |= {**self.tabulate(photo, *wanted), **shown, **self.choose(photo, *texts, *wanted)}
        return found

    def drop_photo(self) -> Updates:
        """The page without a photo."""
        return {self.card: probe_words.nothing_yet(), self.table.truth: "", **self.tabulate(None), **self.photo.drop()}

    def take_photo(self, payload: UploadedFile, text_1: str, text_2: str, *about: Value) -> Updates:
        """An uploaded photo; what it shows is not known."""
        photo, shown = self.photo.upload(payload)
        if photo is None:
            return {**self.drop_photo(), **shown}
        about = (about[0], "", *about[2:])
        try:
            self._encoder(*about).encode_photo(photo)
        except UserError as error:
            return {**self.drop_photo(), **self.photo.refuse(str(error))}
        except Problem:
            pass  # the model cannot be had, which the answers below say
        return {
            self.table.truth: "",
            **self.tabulate(photo, *about),
            **shown,
            **self.choose(photo, text_1, text_2, *about),
        }

    def take_example(self, event: gr.SelectData, text_1: str, text_2: str, *about: Value) -> Updates:
        """The example that was clicked."""
        example = self.photo.examples[int(event.index)]
        photo, shown = self.photo.example(example)
        about = (about[0], example.label, *about[2:])
        found = {**self.tabulate(photo, *about), **shown, **self.choose(photo, text_1, text_2, *about)}
        return {self.table.truth: example.label, **found}

    def show_preset(self, preset: Preset, *about: Value) -> Updates:
        """A figure of the paper: its photo, its texts, and what this model chooses."""
        example = self.photo.find(preset.photo)
        if example is None:
            return self._said({"photo"}, Problem("photo", f"The example photo {preset.photo} is missing here."))
        photo, shown = self.photo.example(example)
        about = (about[0], preset.truth, *about[2:])
        found = {self.table.truth: preset.truth, **self.tabulate(photo, *about), **shown}
        try:
            encoder = self._encoder(*about)
            with problem_at("photo"):
                feature = encoder.encode_photo(photo)
            rounds = play(preset, encoder, feature)
        except Problem as problem:
            return {**found, **self._said({"photo", "texts", "model"}, problem)}
        found |= dict(zip(self.texts, rounds[-1].choice.texts, strict=True))
        return {**found, self.card: probe_words.rounds_card(rounds, preset), self.messages["texts"]: shown_if("")}

    def choose(self, photo: Photo | None, text_1: str, text_2: str, *about: Value) -> Updates:
        """The model's choice between the two texts."""
        return self._choice(
            photo,
            lambda photo: probe_words.rounds_card([Round(ask_texts(self._encoder(*about), photo, (text_1, text_2)))]),
        )

    def choose_again(self, photo: Photo | None, *asked: Value) -> UpdatesOrSkip:
        """The choice of another model; without a photo, nothing changes."""
        return gr.skip() if photo is None else self.choose(photo, *asked)

    def negate(self, photo: Photo | None, text_1: str, text_2: str, *about: Value) -> Updates:
        """The choice before and after "not" was put before the text that lost."""
        found: Updates = {}

        def compare(photo: Photo) -> str:
            before, after = ask_negated(self._encoder(*about), photo, (text_1, text_2))
            found.update(zip(self.texts, after.texts, strict=True))
            return probe_words.compare_choices(before, after)

        return self._choice(photo, compare) | found

    def _choice(self, photo: Photo | None, card: Callable[[Photo], str]) -> Updates:
        places = {"photo", "texts", "model"}
        try:
            if photo is None:
                raise Problem("photo", "There is no photo yet: drop one here, or pick an example.")
            return {self.card: card(photo), **self._said(places)}
        except Problem as problem:
            return {self.card: probe_words.nothing_yet(), **self._said(places, problem)}

    def tabulate(
        self, photo: Photo | None, classes: str = "", truth: str = "", label: str = ZERO_SHOT, backbone: str = ""
    ) -> Updates:
        """The table of classes and wordings about a photo, beside that of the chosen detector."""
        places = {"classes", "model"}
        hidden = gr.update(visible=False)
        blank = {
            part: hidden
            for part in (self.table.marked, self.table.written, self.table.learned_column, self.table.table_link)
        }
        if photo is None:
            return {**blank, **self._said(places)}
        try:
            written, learned, encoder = open_prompts(self.store, classes, label, backbone)
            with problem_at("photo"):
                feature = encoder.encode_photo(photo)
        except Problem as problem:
            return {**blank, **self._said(places, problem)}
        tables = {"written": negation_table(written, feature, truth)}
        if learned is not None:
            # The same truth for both, so that the same texts are true.
            tables["learned"] = negation_table(learned, feature, truth or tables["written"].truth)
        return {
            self.table.marked: shown_if(probe_words.marked_for(tables["written"]) + probe_words.tally_note()),
            self.table.written: shown_if(probe_words.both_tables(tables["written"], "Written by hand")),
            self.table.learned: probe_words.both_tables(tables["learned"], f"Learned by {label}")
            if "learned" in tables
            else "",
            self.table.learned_column: gr.update(visible="learned" in tables),
            self.table.table_link: shown_if(probe_words.table_link(tables, photo.name)),
            **self._said(places),
        }

    def choose_model(self, label: str, backbone: str) -> Updates:
        """Shows the inputs that the chosen detector has a use for."""
        found: Updates = {
            self.table.classes: gr.update(visible=label == ZERO_SHOT),
            self.table.own_classes: gr.update(visible=False),
            self.table.backbone: gr.update(interactive=label == ZERO_SHOT),
        }
        if label != ZERO_SHOT:
            try:
                detector, encoder = self.store.detector(label)
            except UserError:
                return found  # the table that follows says why
            names = ", ".join(detector.class_names)
            found[self.table.own_classes] = shown_if(
                words.note(f"This detector's own classes are asked about: {names}.")
            )
            found[self.table.backbone] = gr.update(value=encoder.name, interactive=False)
            backbone = encoder.name
        return {**found, self.table.backbone_note: shown_if(words.backbone_note(backbone))}

    def _encoder(self, *about: Value) -> Encoder:
        with problem_at("model"):
            return open_detector(self.store, about[2], about[3])[1]

    def _said(self, places: Collection[str], problem: Problem | None = None) -> Updates:
        said: Updates = {self.messages[place]: shown_if("") for place in places}
        if problem and problem.place in places:
            said[self.messages[problem.place]] = shown_if(words.problem(str(problem)))
        return said
