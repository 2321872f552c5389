"""Which detector the Detect tab asks: of typed classes, shipped, trained here or uploaded; and on which backbone."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from lsn_app.serving.requests import ZERO_SHOT, Place
from lsn_app.shared import words
from lsn_app.shared.components import Components, Updates, UploadedFile
from lsn_app.shared.messages import hidden_if_empty, message
from lsn_app.shared.photo_input import file_of
from lsn_app.shared.shared import Shared, detector_choices
from lsn_core import UserError
from lsn_core.class_names import check_class_names, fold_name, join_class_names, read_class_names, split_class_names

_LARGEST_LIST = 2**20
DEFAULT_CLASSES = "dog, cat, elephant, flamingo"


class DetectorChoice:
    """The components, and the functions that events call. They are built in two parts, which stand apart on the page.

    Attributes:
        classes, detector, backbone: what decides which detector is asked.
        ask_button: asks it again.
        names_file: fills in the classes.
        messages: where mistakes are told, by the input they belong to.
    """

    def __init__(self, shared: Shared) -> None:
        self.shared, self.store = shared, shared.store
        names = self._class_names(str(shared.detector.value))
        self.classes = shared.classes
        self.classes.value = join_class_names(names) if names else DEFAULT_CLASSES
        self.classes.render()
        # Told of here, as the second part is folded.
        self.messages: dict[Place, gr.HTML] = {
            "classes": message("lsn-message-classes"),
            "model": message("lsn-message-model"),
        }
        with gr.Row():
            self._build_buttons()

    def _build_buttons(self) -> None:
        self.ask_button = gr.Button("Ask", size="sm", min_width=100, elem_id="lsn-ask")
        self.names_file = gr.UploadButton(
            "From a file", file_types=["text", ".json"], size="sm", min_width=100, elem_id="lsn-names-file"
        )

    def build_model(self) -> None:
        """The second part: detector and backbone."""
        store = self.store
        with gr.Row():
            self.detector = self.shared.detector
            self.detector.render()
            self.backbone = gr.Dropdown(
                store.choices,
                value=store.default,
                label="CLIP model (backbone)",
                min_width=200,
                allow_custom_value=not store.public,
                interactive=self.detector.value == ZERO_SHOT,
                elem_id="lsn-backbone",
            )
        self.upload = gr.UploadButton(
            "Upload a detector file (.safetensors)", file_types=[".safetensors"], size="sm", elem_id="lsn-detector-file"
        )
        note = words.backbone_note(store.default)
        self.backbone_note = gr.HTML(note, visible=bool(note), elem_id="lsn-backbone-note")

    @property
    def inputs(self) -> Components:
        """The components that decide which detector is asked."""
        return [self.classes, self.detector, self.backbone]

    @property
    def outputs(self) -> Components:
        """The components that `choose` updates."""
        return [self.classes, self.backbone, self.backbone_note]

    def take_file(self, payload: UploadedFile, owner: str | None, request: gr.Request) -> Updates:
        """Chooses an uploaded detector and offers it to this visitor, or says why it is none."""
        path, name = file_of(payload)
        try:
            label = self.store.add_upload(Path(path), name, request.session_hash)
        except UserError as error:
            return {self.messages["model"]: hidden_if_empty(words.problem(str(error)))}
        choices = detector_choices(self.store, request.session_hash, owner)
        return {self.detector: gr.update(choices=choices, value=label), self.messages["model"]: hidden_if_empty("")}

    def take_names(self, payload: UploadedFile) -> str:
        """The class list in an uploaded file, as the field of classes has it."""
        path, name = file_of(payload)
        try:
            if Path(path).stat().st_size > _LARGEST_LIST:
                raise UserError(f"{name} is too large for a list of class names. Give one name a line.")
            return join_class_names(check_class_names(read_class_names(Path(path).read_bytes(), name)))
        except UserError as error:
            raise gr.Error(str(error), print_exception=False) from error

    def is_edited(self, classes: str, label: str) -> bool:
        """Whether other classes were typed than the chosen saved detector has."""
        return label != ZERO_SHOT and [*map(fold_name, split_class_names(classes or ""))] != [
            *map(fold_name, self._class_names(label))
        ]

    def choose(self, label: str) -> Updates:
        """The inputs as the chosen detector has them."""
        updates: Updates = {self.backbone: gr.update(interactive=True)}
        if label == ZERO_SHOT:
            return updates
        try:
            detector, encoder = self.store.detector(label)
        except UserError:
            return updates  # the answer that follows says why
        return {
            self.classes: join_class_names(detector.class_names),
            self.backbone: gr.update(value=encoder.name, interactive=False),
            self.backbone_note: hidden_if_empty(words.backbone_note(encoder.name)),
        }

    def _class_names(self, label: str) -> tuple[str, ...]:
        if label == ZERO_SHOT:
            return ()
        try:
            return self.store.detector(label)[0].class_names
        except UserError:
            return ()
