"""The Evaluate tab's steps: a detector, photos of its classes and of other things, and what they hold."""

from __future__ import annotations

import gradio as gr

from lsn_app.evaluate import words as evaluate_words
from lsn_app.evaluate.answer import EvaluateRequest
from lsn_app.serving.requests import ZERO_SHOT, DetectorRequest, Place
from lsn_app.serving.store import Store
from lsn_app.shared import words
from lsn_app.shared.components import Inputs, UploadedFiles, Values
from lsn_app.shared.messages import message
from lsn_app.shared.photo_input import file_of
from lsn_app.shared.shared import detector_choices

EXAMPLE_CLASSES = "cat, dog, elephant, flamingo, church, guitar, school bus, daisy"  # half of the examples


class StepsPanel:
    """The components of the steps, in the order of the page.

    Attributes:
        example: a state, whether the example photos are what is measured.
        messages: where mistakes are told, by the input they belong to.
    """

    def __init__(self, store: Store, examples: bool) -> None:
        self.messages: dict[Place, gr.HTML] = {}
        self.example = gr.State(False)
        self.try_it = gr.Button("Try it with the example photos", size="sm", visible=examples, elem_id="eval-example")
        _heading("1. The detector")
        self.detector = gr.Dropdown(detector_choices(store), value=ZERO_SHOT, label="Detector", elem_id="eval-detector")
        self.classes = gr.Textbox(
            EXAMPLE_CLASSES,
            label="Known classes",
            info="Separated by commas or lines.",
            lines=1,
            max_lines=6,
            elem_id="eval-classes",
        )
        self.own_classes = gr.HTML(visible=False, elem_id="eval-own-classes")
        self.messages["classes"] = message("eval-message-classes")
        self.backbone = gr.Dropdown(
            store.choices,
            value=store.default,
            label="CLIP model (backbone)",
            allow_custom_value=not store.public,
            elem_id="eval-backbone",
        )
        self.messages["model"] = message("eval-message-model")
        _heading("2. Photos of its classes")
        gr.HTML(
            words.note(
                "One zip of class folders (cat/1.jpg, dog/1.jpg, …) or Parquet file; or photos by themselves. Not "
                "those that the detector was trained on: they would flatter it."
            )
        )
        self.known = gr.File(
            label="Known",
            file_count="multiple",
            file_types=["image", ".zip", ".parquet"],
            height=120,
            elem_id="eval-known",
        )
        self.messages["known"] = message("eval-message-known")
        _heading("3. Photos of other things")
        gr.HTML(
            words.note("Each zip or Parquet file is measured as a set of its own; photos by themselves make one more.")
        )
        self.others = gr.File(
            label="Other",
            file_count="multiple",
            file_types=["image", ".zip", ".parquet"],
            height=160,
            elem_id="eval-others",
        )
        self.messages["others"] = message("eval-message-others")

    def build_start(self) -> None:
        """The last step, which stands above the results."""
        _heading("4. What was found")
        self.contents = gr.HTML(evaluate_words.contents(None, []), elem_id="eval-found")
        with gr.Row():
            self.start = gr.Button("Start", variant="primary", interactive=False, elem_id="eval-start")
            self.stop = gr.Button("Stop", visible=False, elem_id="eval-stop")

    @property
    def inputs(self) -> Inputs:
        """The components that decide what is measured."""
        return {self.known, self.others, self.example, self.detector, self.classes, self.backbone}

    def read(self, values: Values) -> EvaluateRequest:
        """The request in the values of `inputs`."""
        return EvaluateRequest(
            DetectorRequest(values[self.classes], values[self.detector], values[self.backbone]),
            _files(values[self.known]),
            _files(values[self.others]),
            values[self.example],
        )


def _files(payload: UploadedFiles) -> tuple[tuple[str, str], ...]:
    return tuple(file_of(item) for item in payload or ())


def _heading(title: str) -> None:
    gr.HTML(f'<h3 class="lsn-heading">{title}</h3>')
