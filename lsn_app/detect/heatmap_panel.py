"""The Detect tab's heat maps: a class's positive prompt and its negative ones, side by side on one scale."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from html import escape
from pathlib import Path

import gradio as gr
from PIL import Image

from lsn_app.detect.answer import DetectRequest
from lsn_app.serving.requests import Problem, open_detector, problem_at
from lsn_app.serving.store import Store
from lsn_app.shared import words
from lsn_app.shared.components import Components, Event, EventOptions, Inputs, Updates, UpdatesOrSkip, Values
from lsn_app.shared.messages import plot_title
from lsn_app.shared.turns import Turns
from lsn_core import Detector, UserError
from lsn_core.heatmaps import DEFAULT_OPACITY
from lsn_core.heatmaps.maps import HeatMaps
from lsn_core.heatmaps.methods import DEFAULT_METHOD, METHODS
from lsn_core.heatmaps.overlay import colour_words, overlay, panel, reduce

PREDICTED = ""  # the class that fits best
_KINDS = [("Each prompt", "prompts"), ("Positive minus negative", "difference"), ("The detector's score", "score")]
_LARGEST = 768  # pixels of the longer side: more than a page shows of one map
_PRIVATE: EventOptions = {"api_visibility": "private", "concurrency_id": "model", "concurrency_limit": 2}


class HeatMapPanel:
    """The panel's components, and how they are filled.

    Args:
        asked: the components that decide which photo and which detector the maps are of, as `read` takes them.
        read: the request in their values.
        turns: of the tab's photos.
    """

    def __init__(self, store: Store, asked: Inputs, read: Callable[[Values], DetectRequest], turns: Turns) -> None:
        self.store, self.read, self.turns = store, read, turns
        with gr.Column(visible=False, elem_id="lsn-heatmaps") as self.box:
            plot_title("Heat maps")
            self.message = gr.HTML(visible=False, elem_id="lsn-message-heat")
            self.gallery = gr.Gallery(
                label="Heat maps",
                show_label=False,
                columns=4,
                height="auto",
                object_fit="contain",
                interactive=False,
                buttons=["fullscreen"],
                format="png",
                elem_id="lsn-heat-maps",
            )
            self.legend = gr.HTML(elem_id="lsn-heat-legend")
            with gr.Row():
                self.class_name = gr.Dropdown(
                    [("the one that fits best", PREDICTED)],
                    value=PREDICTED,
                    label="Class",
                    min_width=140,
                    elem_id="lsn-heat-class",
                )
                self.kind = gr.Dropdown(
                    _KINDS, value="prompts", label="Maps of", min_width=140, elem_id="lsn-heat-kind"
                )
                self.method = gr.Dropdown(
                    [(_title(name), name) for name in METHODS],
                    value=DEFAULT_METHOD,
                    label="Method",
                    min_width=140,
                    elem_id="lsn-heat-method",
                )
                self.opacity = gr.Slider(
                    0.0,
                    1.0,
                    value=DEFAULT_OPACITY,
                    step=0.05,
                    label="Opacity",
                    min_width=140,
                    elem_id="lsn-heat-opacity",
                )
            self.download = gr.DownloadButton("Download as PNG", size="sm", elem_id="lsn-heat-download")
        self.inputs: Inputs = {*asked, self.class_name, self.kind, self.method, self.opacity}
        gr.on(
            [self.class_name.input, self.kind.input, self.method.input, self.opacity.release],
            self.show,
            self.inputs,
            self.outputs,
            trigger_mode="always_last",
            **_PRIVATE,
        )

    @property
    def outputs(self) -> Components:
        """The components that `show` updates."""
        return [
            self.box,
            self.class_name,
            self.kind,
            self.method,
            self.message,
            self.gallery,
            self.legend,
            self.download,
        ]

    def follow(self, event: Event) -> Event:
        """Fills the panel after an event that changed photo, classes or detector; the verdict goes first."""
        return event.then(
            self.show, self.inputs, self.outputs, show_progress="hidden", trigger_mode="always_last", **_PRIVATE
        )

    def show(self, values: Values, request: gr.Request) -> UpdatesOrSkip:
        """The maps, or why there are none; without a photo, nothing."""
        question = self.turns.ask(request.session_hash, "maps")
        return question.unless_over(self._show(self.read(values), values))

    def _show(self, request: DetectRequest, values: Values) -> Updates:
        if request.photo is None:
            return {self.box: gr.update(visible=False)}
        try:
            detector, encoder = open_detector(self.store, request.detector)
            with problem_at("photo"):
                encoder.encode_photo(request.photo)
        except Problem:
            return {self.box: gr.update(visible=False)}  # the verdict's place says what is wrong
        class_name = str(values[self.class_name])
        chosen = class_name if class_name in detector.class_names else PREDICTED
        methods, kinds = encoder.heat_map_methods, _kinds(detector)
        method = values[self.method] if values[self.method] in methods else methods[0]
        kind = values[self.kind] if values[self.kind] in {name for _, name in kinds} else "prompts"
        updates: Updates = {
            self.box: gr.update(visible=True),
            self.method: gr.update(choices=[(_title(name), name) for name in methods], value=method),
            self.kind: gr.update(choices=kinds, value=kind),
            self.class_name: gr.update(
                choices=[("the one that fits best", PREDICTED), *detector.class_names], value=chosen
            ),
        }
        try:
            maps, picture = encoder.explain(detector, request.photo, chosen or None, method, kind)
        except UserError as error:
            nothing = {self.gallery: [], self.legend: "", self.download: gr.update(interactive=False)}
            return updates | nothing | {self.message: gr.update(value=words.problem(str(error)), visible=True)}
        # A folder of its own, so that neither visitors nor the name of a photo can get in the way.
        file = Path(tempfile.mkdtemp(dir=self.gallery.GRADIO_CACHE)) / "heat-maps.png"
        opacity = float(values[self.opacity])
        panel(picture, maps, opacity).save(file)
        return updates | {
            self.message: gr.update(visible=False),
            self.gallery: gr.update(value=captioned(picture, maps, opacity), columns=min(4, max(2, len(maps.targets)))),
            self.legend: legend(maps),
            self.download: gr.update(value=str(file), interactive=True),
        }


def _title(method: str) -> str:
    return method if METHODS[method].sees_text else f"{method} (one map for all texts)"


def _kinds(detector: Detector) -> list[tuple[str, str]]:
    return [kind for kind in _KINDS if kind[1] != "difference" or len(detector.negative)]


def captioned(picture: Image.Image, maps: HeatMaps, opacity: float) -> list[tuple[Image.Image, str]]:
    """Each map over the photo, with its prompt and value."""
    reduced, small = reduce(picture, maps, _LARGEST)
    return [
        (overlay(reduced, small, i, opacity), f"{target.label}: {target.value:.3f}")
        for i, target in enumerate(maps.targets)
    ]


def legend(maps: HeatMaps) -> str:
    """The common scale and what the method does, as HTML."""
    method = METHODS[maps.method]
    alike = "" if method.sees_text else " All maps are the same: this method does not look at the text."
    all_maps = "All maps have one scale. They show what the model reacts to, which need not be where the thing is."
    about = words.note(f"{all_maps} {colour_words(maps)} {method.name}: {method.about}.{alike}")
    return about + (
        '<div class="lsn-legend" role="img" aria-label="'
        f'{escape(f"Colours from purple at {-maps.limit:.3g} over none at 0 to orange at {maps.limit:.3g}")}">'
        f"<span>{-maps.limit:.3g}</span><span class='lsn-ramp'></span><span>{maps.limit:.3g}</span></div>"
    )
