"""The table of classes and ways to say no: what is asked about, by which prompts, and where the answer stands."""

from __future__ import annotations

import gradio as gr

from lsn_app.serving.requests import ZERO_SHOT
from lsn_app.serving.store import Store
from lsn_app.shared import words

DEFAULT_CLASSES = "cat, dog, elephant, flamingo, zebra"


class TablePanel:
    """The components of the table.

    Args:
        messages: where mistakes are told, by the input they belong to; "classes" and "model" are added.
    """

    def __init__(self, store: Store, messages: dict[str, gr.HTML]) -> None:
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
                messages["classes"] = gr.HTML(visible=False, elem_id="not-message-classes")
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
                [("None: written prompts only", ZERO_SHOT), *((name, name) for name in store.detectors)],
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
        messages["model"] = gr.HTML(visible=False, elem_id="not-message-model")
        self.marked = gr.HTML(visible=False, elem_id="not-marked")
        with gr.Row():
            with gr.Column(min_width=300):
                self.written = gr.HTML(visible=False, elem_id="not-written")
            with gr.Column(min_width=300, visible=False) as self.learned_column:
                self.learned = gr.HTML(elem_id="not-learned")
        self.table_link = gr.HTML(visible=False, elem_id="not-table-link")
