"""The Detect tab's details, which are folded: the score on its scale, and what each prompt says for itself."""

from __future__ import annotations

from typing import Any

import gradio as gr

from lsn_app.detect.answer import Answer
from lsn_app.detect.plots import negative_bars, positive_bars, score_scale
from lsn_app.shared.components import Components, Updates
from lsn_app.shared.messages import hidden_if_empty, plot_title
from lsn_app.shared.words import note
from lsn_core.scores.registry import NEGATIVES, SCORES


class DetailsPanel:
    """The components, and what they show of an answer.

    Attributes:
        scale: the score beside the threshold.
    """

    def __init__(self) -> None:
        with gr.Accordion("Details", open=False, elem_id="lsn-details") as self.box:
            self.about = gr.HTML(elem_id="lsn-score-name")
            self.scale = gr.Plot(show_label=False, elem_id="lsn-scale")
            with gr.Row():
                with gr.Column(min_width=300):
                    plot_title(
                        "If it had to be one of the classes",
                        "How the positive prompts share 100 % among the classes. There is no place for “none of them”.",
                    )
                    self.positive = gr.Plot(show_label=False, elem_id="lsn-positive")
                with gr.Column(min_width=300) as self.denials:
                    plot_title(
                        "Which “no” fits best",
                        "How the negative prompts share 100 % among the classes: the least denied one has the shortest "
                        "bar.",
                    )
                    self.negative = gr.Plot(show_label=False, elem_id="lsn-negative")

    @property
    def outputs(self) -> Components:
        """The components that `show` and `hide` update."""
        return [self.box, self.about, self.scale, self.positive, self.negative, self.denials]

    def show(self, answer: Answer) -> Updates:
        """The details of an answer, all but the scale, which follows the slider."""
        prediction, score = answer.prediction, SCORES[answer.detector.score_name]
        name, hears_negatives = answer.detector.score_name, NEGATIVES in score.needs
        return {
            self.box: gr.update(visible=True),
            self.about: hidden_if_empty(note(f"Score “{name}”: {score.about} ({score.source}). {_threshold(answer)}")),
            self.positive: positive_bars(prediction.positive, answer.temperature),
            self.negative: negative_bars(prediction.positive, prediction.negative, answer.temperature)
            if hears_negatives
            else None,
            self.denials: gr.update(visible=hears_negatives),
        }

    def hide(self) -> Updates:
        """No details, as there is no answer."""
        return {self.box: gr.update(visible=False)}

    def draw_scale(self, answer: Answer) -> Any:
        """The score beside the threshold, over the calibration photos where the threshold is theirs."""
        prediction, calibration = answer.prediction, answer.detector.calibration
        assert prediction.score is not None and prediction.threshold is not None
        return score_scale(
            prediction.score,
            prediction.threshold,
            known=prediction.verdict == "ID",
            calibration=calibration.scores.tolist() if calibration and prediction.calibrated else None,
        )


def _threshold(answer: Answer) -> str:
    calibration = answer.detector.calibration
    if calibration is None or not answer.prediction.calibrated:
        return ""
    return f"Its threshold is set by {len(calibration):,} photos of known classes that were held out from training."
