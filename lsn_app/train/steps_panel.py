"""The Train tab's steps: photos, what they hold, how to train, and the button that starts it."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from lsn_app.serving.store import Store
from lsn_app.shared import words
from lsn_app.shared.components import Inputs, Values
from lsn_app.train.answer import OOD_EXAMPLES, OOD_NONE, OOD_OWN, TrainRequest
from lsn_app.train.sample_sets import SAMPLES
from lsn_app.train.words import recipe_choices
from lsn_core.training.config import METHODS

LAYOUT = (
    "A **zip** with one folder for each class, named after it: `cat/1.jpg`, `cat/2.jpg`, `dog/1.jpg`, ... "
    "(or Parquet with `image` and `label` columns). 16 to 128 photos of each class are a good number."
)


class StepsPanel:
    """The components of the three steps, in the order of the page."""

    def __init__(self, store: Store) -> None:
        gr.HTML('<h3 class="lsn-heading">1. Photos of your classes</h3>')
        gr.Markdown(LAYOUT)
        self.data = gr.File(label="Photos", file_types=[".zip", ".parquet"], height=140, elem_id="lsn-train-data")
        self.data_message = gr.HTML(visible=False, elem_id="lsn-train-data-message")
        with gr.Accordion("No photos at hand? Take a sample set", open=False, elem_id="lsn-train-samples"):
            self.sample = gr.Radio(
                [(f"{sample.name}: {sample.about}", sample.name) for sample in SAMPLES.values()],
                value=next(iter(SAMPLES)),
                label="Sample set",
                info="Fetched once, then kept on this server.",
                elem_id="lsn-train-sample",
            )
            self.take = gr.Button("Use this set", size="sm", elem_id="lsn-train-take")
        gr.HTML('<h3 class="lsn-heading">2. What was found</h3>')
        self.contents = gr.HTML(words.note("Upload the photos first."), elem_id="lsn-train-found")
        self.split = gr.Dropdown([], label="Split to train on", visible=False, elem_id="lsn-train-split")
        gr.HTML('<h3 class="lsn-heading">3. How to train</h3>')
        self.preset = gr.Radio(
            recipe_choices([] if store.jobs is None else store.jobs.list()),
            value="fast",
            label="Recipe",
            elem_id="lsn-train-preset",
        )
        self.shots = gr.Slider(
            2, 256, value=64, step=1, label="Most photos of a class to use", elem_id="lsn-train-shots"
        )
        self.ood = gr.Radio(
            [OOD_EXAMPLES, OOD_OWN, OOD_NONE],
            value=OOD_EXAMPLES,
            label="Measure the detector against",
            info="Photos that show none of your classes.",
            elem_id="lsn-train-ood",
        )
        self.ood_file = gr.File(
            label="Photos of none of the classes: loose, a zip or a Parquet file",
            file_count="multiple",
            file_types=["image", ".zip", ".parquet"],
            height=120,
            visible=False,
            elem_id="lsn-train-ood-file",
        )
        self.ood_contents = gr.HTML(visible=False, elem_id="lsn-train-ood-found")
        with gr.Accordion("Advanced settings", open=False, elem_id="lsn-train-advanced"):
            self.name = gr.Textbox("", label="Name of the job", placeholder="the file's name", max_length=80)
            self.method = gr.Radio(list(METHODS), value="coop", label="Method")
            self.sets = gr.Slider(1, 5, value=3, step=1, label="Negative prompts for each class (K)")
            self.seed = gr.Number(0, label="Seed", precision=0, minimum=0)
            self.backbone = gr.Dropdown(
                store.choices,
                value=store.default,
                label="CLIP model (backbone)",
                allow_custom_value=not store.public,
            )
        self.start = gr.Button("Start training", variant="primary", interactive=False, elem_id="lsn-train-start")
        self.start_message = gr.HTML(visible=False, elem_id="lsn-train-message")

    @property
    def inputs(self) -> Inputs:
        """The components that decide what a job does."""
        return {
            self.data,
            self.split,
            self.preset,
            self.shots,
            self.ood,
            self.ood_file,
            self.name,
            self.method,
            self.sets,
            self.seed,
            self.backbone,
        }

    def read(self, values: Values) -> TrainRequest:
        """The request in the values of `inputs`."""
        return TrainRequest(
            data=Path(values[self.data]) if values[self.data] else None,
            split=values[self.split] or None,
            preset=values[self.preset],
            shots=int(values[self.shots]),
            ood=values[self.ood],
            ood_data=tuple(Path(path) for path in values[self.ood_file] or ()),
            name=values[self.name],
            method=values[self.method],
            sets=int(values[self.sets]),
            seed=int(values[self.seed]),
            backbone=values[self.backbone],
        )
