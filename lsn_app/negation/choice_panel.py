"""The tab on "not": cases to ask about by one click, two texts to choose from, and the choice."""

from __future__ import annotations

import gradio as gr

from lsn_app.negation import words as probe_words
from lsn_app.negation.paper_figures import PRESETS
from lsn_app.shared.messages import message

DEFAULT_TEXTS = ("a photo of a dog", "not a photo of a dog")


class ChoicePanel:
    """The components: the cases at once, the texts where `build_texts` is called.

    Args:
        detectors: whether there are any, to show what learning changes.

    Attributes:
        learning, maps, presets: buttons, each for a case.
        texts, ask_button, negate_button: what is asked.
        texts_message: where a mistake in the texts is told.
        card: the choice.
    """

    def __init__(self, detectors: bool) -> None:
        with gr.Row(elem_id="not-cases"):
            self.learning = gr.Button(
                "What learning changes",
                variant="primary",
                size="sm",
                min_width=0,
                visible=detectors,
                elem_id="not-learning",
            )
            self.maps = gr.Button(
                "Figure 2: where prompts react",
                size="sm",
                min_width=0,
                visible=detectors,
                elem_id="not-figure-2",
            )
            self.presets = [
                gr.Button(
                    f"Figure {preset.figure}: {preset.title}",
                    size="sm",
                    min_width=0,
                    elem_id=f"not-figure-{preset.figure}",
                )
                for preset in PRESETS
            ]

    def build_texts(self) -> None:
        """The two texts, and what was chosen."""
        gr.HTML('<h3 class="lsn-heading">Or write two texts, and bring a photo</h3>')
        with gr.Row():
            self.texts = [
                gr.Textbox(text, label=label, lines=1, max_lines=3, min_width=200, elem_id=f"not-text-{number}")
                for number, (label, text) in enumerate(
                    zip(("One text", "Another"), DEFAULT_TEXTS, strict=True), start=1
                )
            ]
        self.texts_message = message("not-message-texts")
        with gr.Row():
            self.ask_button = gr.Button("Which one fits?", variant="primary", size="sm", elem_id="not-ask")
            self.negate_button = gr.Button("Put “not” before the loser", size="sm", elem_id="not-negate")
        self.card = gr.HTML(probe_words.nothing_yet(), elem_id="not-choice")
