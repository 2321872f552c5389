"""The table of classes and ways to say no: what is asked about, by which prompts, and where the answer stands."""

from __future__ import annotations

import gradio as gr

from lsn_app.serving.requests import ZERO_SHOT
from lsn_app.serving.store import Store
from lsn_app.shared import words
from lsn_app.shared.components import Components, Inputs, Updates, UpdatesOrSkip
from lsn_app.shared.messages import Messages, hidden_if_empty, message
from lsn_app.shared.shared import detector_choices
from lsn_core import UserError

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
