"""Which detector the Detect tab asks: of typed classes, shipped, trained here or uploaded; and on which backbone."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from lsn_app.serving.requests import ZERO_SHOT, Place
from lsn_app.shared import words
from lsn_app.shared.components import Components, Updates, UploadedFile
from lsn_app.shared.messages import hidden_if_empty, message
from lsn_app.shared.photo_input import file_of
from lsn_app.shared.shared import Shared
from lsn_core import Detector, UserError

DEFAULT_CLASSES = "dog, cat, elephant, flamingo"


class DetectorChoice:
    """The components, and the functions that events call.

    Attributes:
        classes, detector, backbone: what decides which detector is asked.
        ask_button: asks it again.
        messages: where mistakes are told, by the input they belong to.
    """

    def __init__(self, shared: Shared) -> None:
        self.store = store = shared.store
        self.classes = gr.Textbox(
            DEFAULT_CLASSES,
            label="Known classes",
            info="Separated by commas or lines. Press Enter to ask again.",
            lines=1,
            max_lines=6,
            elem_id="lsn-classes",
        )
        self.own_classes = gr.HTML(visible=False, elem_id="lsn-own-classes")
        self.messages: dict[Place, gr.HTML] = {"classes": message("lsn-message-classes")}
        self.ask_button = gr.Button("Ask again with these classes", size="sm", elem_id="lsn-ask")
        with gr.Row():
            self.detector = shared.detector
            self.detector.render()
            self.backbone = gr.Dropdown(
                store.choices,
                value=store.default,
                label="CLIP model (backbone)",
                min_width=200,
                allow_custom_value=not store.public,
                elem_id="lsn-backbone",
            )
        self.upload = gr.UploadButton(
            "Upload a detector file (.safetensors)", file_types=[".safetensors"], size="sm", elem_id="lsn-detector-file"
        )
        note = words.backbone_note(store.default)
        self.backbone_note = gr.HTML(note, visible=bool(note), elem_id="lsn-backbone-note")
        self.messages["model"] = message("lsn-message-model")

    @property
    def inputs(self) -> Components:
        """The components that decide which detector is asked."""
        return [self.classes, self.detector, self.backbone]

    @property
    def outputs(self) -> Components:
        """The components that `choose` updates."""
        return [self.classes, self.own_classes, self.ask_button, self.backbone, self.backbone_note]

    def take_file(self, payload: UploadedFile, request: gr.Request) -> Updates:
        """Chooses an uploaded detector and offers it to this visitor, or says why it is none."""
        path, name = file_of(payload)
        try:
            label = self.store.add_upload(Path(path), name, request.session_hash)
        except UserError as error:
            return {self.messages["model"]: hidden_if_empty(words.problem(str(error)))}
        choices = [ZERO_SHOT, *self.store.offered(request.session_hash)]
        return {self.detector: gr.update(choices=choices, value=label), self.messages["model"]: hidden_if_empty("")}

    def choose(self, label: str) -> tuple[Detector | None, Updates]:
        """The chosen detector (None for zero-shot), and the inputs that it has a use for."""
        zero_shot = label == ZERO_SHOT
        updates: Updates = {
            self.classes: gr.update(visible=zero_shot),
            self.ask_button: gr.update(visible=zero_shot),
            self.own_classes: gr.update(visible=False),
            self.backbone: gr.update(interactive=True),
        }
        if zero_shot:
            return None, updates
        try:
            detector, encoder = self.store.detector(label)
        except UserError:
            return None, updates  # the answer that follows says why
        names = ", ".join(detector.class_names)
        updates[self.own_classes] = hidden_if_empty(words.note(f"This detector knows: {names}."))
        updates[self.backbone] = gr.update(value=encoder.name, interactive=False)
        updates[self.backbone_note] = hidden_if_empty(words.backbone_note(encoder.name))
        return detector, updates
