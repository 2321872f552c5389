"""The table of classes and ways to say no: what is asked about, by which prompts, and where the answer stands."""

from __future__ import annotations

from typing import cast

import gradio as gr

from lsn_app.negation import words as probe_words
from lsn_app.negation.answer import NegationRequest, open_prompts
from lsn_app.serving.requests import ZERO_SHOT, Place, Problem, problem_at
from lsn_app.serving.store import Store
from lsn_app.shared import words
from lsn_app.shared.components import Components, Inputs, Updates, UpdatesOrSkip
from lsn_app.shared.messages import Messages, hidden_if_empty, message, tell
from lsn_app.shared.shared import detector_choices
from lsn_core import Backbone, UserError
from lsn_core.negation import negation_table, region_prompts

_PLACES: tuple[Place, ...] = ("classes", "model")
_NONE = "None: written prompts only"
DEFAULT_CLASSES = "cat, dog, elephant, flamingo, zebra"


class TablePanel:
    """The components of the table.

    Attributes:
        classes, truth, detector, backbone: what decides it.
        messages: where mistakes are told, by the input they belong to.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        with gr.Row():
            with gr.Column(min_width=300):
                self.classes = gr.Textbox(
                    DEFAULT_CLASSES,
                    label="Classes to ask about",
                    info="Separated by commas or lines.",
                    lines=1,
                    max_lines=6,
                    elem_id="not-classes",
                )
                self.own_classes = gr.HTML(visible=False, elem_id="not-own-classes")
                classes_message = message("not-message-classes")
            self.truth = gr.Textbox(
                label="What the photo shows",
                info="Decides which texts are true. Empty: the model's best guess.",
                lines=1,
                max_lines=1,
                min_width=300,
                elem_id="not-truth",
            )
        with gr.Row():
            self.detector = gr.Dropdown(
                detector_choices(store, names_alone=_NONE),
                value=ZERO_SHOT,
                label="Set beside them what a trained detector learned",
                min_width=300,
                elem_id="not-detector",
            )
            self.backbone = gr.Dropdown(
                store.choices,
                value=store.default,
                label="CLIP model (backbone)",
                min_width=300,
                allow_custom_value=not store.public,
                elem_id="not-backbone",
            )
        remark = words.backbone_note(store.default)
        self.backbone_note = gr.HTML(remark, visible=bool(remark), elem_id="not-backbone-note")
        self.messages: Messages = {"classes": classes_message, "model": message("not-message-model")}
        self.marked = gr.HTML(visible=False, elem_id="not-marked")
        with gr.Row():
            with gr.Column(min_width=300):
                self.written = gr.HTML(visible=False, elem_id="not-written")
            with gr.Column(min_width=300, visible=False) as self.learned_column:
                self.learned = gr.HTML(elem_id="not-learned")
        self.table_link = gr.HTML(visible=False, elem_id="not-table-link")

    @property
    def inputs(self) -> Inputs:
        """The components that decide what is asked about."""
        return {self.classes, self.truth, self.detector, self.backbone}

    @property
    def outputs(self) -> Components:
        """The components that `choose` updates."""
        return [self.classes, self.own_classes, self.backbone, self.backbone_note]

    @property
    def filled(self) -> Components:
        """The components that `fill` updates."""
        tables = [self.marked, self.written, self.learned, self.learned_column, self.table_link]
        return [*tables, *self.messages.values()]

    def fill(self, request: NegationRequest) -> Updates:
        """The table of classes and wordings about a photo, beside that of the chosen detector; empty without one."""
        if request.photo is None:
            return self.empty(None)
        try:
            written, learned, encoder = open_prompts(self.store, request.detector)
            with problem_at("photo"):
                feature = encoder.encode_photo(request.photo)
        except Problem as problem:
            return self.empty(problem)
        tables = {"written": negation_table(written, feature, request.truth)}
        regions = region_prompts(cast(Backbone, encoder), written.class_names)
        no_text = negation_table(regions, feature, request.truth or tables["written"].truth)
        by_hand = probe_words.both_tables(tables["written"], "Without training", no_text.tallies)
        if learned is not None:
            # The same truth for both, so that the same texts are true.
            tables["learned"] = negation_table(learned, feature, request.truth or tables["written"].truth)
        title = f"Learned by {request.detector.label}"
        return {
            self.marked: hidden_if_empty(probe_words.marked_for(tables["written"]) + probe_words.tally_note()),
            self.written: hidden_if_empty(by_hand),
            self.learned: probe_words.both_tables(tables["learned"], title) if "learned" in tables else "",
            self.learned_column: gr.update(visible="learned" in tables),
            self.table_link: hidden_if_empty(probe_words.table_link(tables, request.photo.name)),
            **tell(self.messages, _PLACES),
        }

    def empty(self, problem: Problem | None) -> Updates:
        """No tables, and the reason where there is one."""
        blank = (self.marked, self.written, self.learned_column, self.table_link)
        return {**dict.fromkeys(blank, gr.update(visible=False)), **tell(self.messages, _PLACES, problem)}

    def offer(self, owner: str | None, request: gr.Request) -> UpdatesOrSkip:
        """The detectors to choose from: also what this visitor uploaded and trained."""
        choices = detector_choices(self.store, request.session_hash, owner, names_alone=_NONE)
        return gr.update(choices=choices)

    def choose(self, label: str, backbone: str) -> Updates:
        """Shows the inputs that the chosen detector has a use for."""
        updates: Updates = {
            self.classes: gr.update(visible=label == ZERO_SHOT),
            self.own_classes: gr.update(visible=False),
            self.backbone: gr.update(interactive=label == ZERO_SHOT),
        }
        if label != ZERO_SHOT:
            try:
                detector, encoder = self.store.detector(label)
            except UserError:
                return updates  # the table that follows says why
            names = ", ".join(detector.class_names)
            updates[self.own_classes] = hidden_if_empty(
                words.note(f"This detector's own classes are asked about: {names}.")
            )
            updates[self.backbone] = gr.update(value=encoder.name, interactive=False)
            backbone = encoder.name
        return {**updates, self.backbone_note: hidden_if_empty(words.backbone_note(backbone))}
