"""The Detect tab's public endpoints: `/score` and `/heatmap`."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.data_classes import FileData

from lsn_app.detect.answer import score_line
from lsn_app.detect.detector_choice import DEFAULT_CLASSES
from lsn_app.serving.encoder import AT_ONCE
from lsn_app.serving.photos import read_photo
from lsn_app.serving.requests import DetectorRequest, Problem, open_detector
from lsn_app.serving.store import Store
from lsn_app.shared.photo_input import file_of
from lsn_core import UserError
from lsn_core.heatmaps.methods import DEFAULT_METHOD


def build_endpoints(store: Store) -> None:
    """Adds them to the page that is being built."""

    def score(image: FileData, classes: str = DEFAULT_CLASSES, tpr: float = 0.95) -> dict[str, Any]:
        """Tells whether a photo shows one of the given classes, with the default backbone and zero-shot prompts.

        Args:
            image: the photo (JPEG, PNG, WebP, BMP, GIF or TIFF), uploaded, or over MCP a data URL. No address
                is fetched.
            classes: names of the known classes, separated by commas or line ends.
            tpr: wanted true positive rate, between 0 and 1; of effect only for a calibrated detector.

        Returns:
            file, verdict ("ID" or "OOD"), score, threshold, calibrated, p_value, predicted_class, positive (class ->
            cosine), negative (class -> cosines), score_name, evidence (part of the score -> how far it lies above that
            of an image at the threshold), error (a sentence where there is no verdict, else null).
        """
        return score_line(store, *file_of(image), classes, tpr)

    def heatmap(
        image: FileData,
        classes: str = DEFAULT_CLASSES,
        class_name: str = "",
        method: str = DEFAULT_METHOD,
        target: str = "prompts",
    ) -> dict[str, Any]:
        """Shows which places of a photo raise or lower the cosine to a class's zero-shot prompts.

        Args:
            image: the photo (JPEG, PNG, WebP, BMP, GIF or TIFF), uploaded, or over MCP a data URL. No address
                is fetched.
            classes: names of the known classes, separated by commas or line ends; at least two.
            class_name: whose prompts; empty for the class that fits best.
            method: grad-cam, grad-cam++, layer-cam, eigen-cam, legrad or clip-surgery.
            target: prompts (positive and negative), difference (positive minus negative) or score.

        Returns:
            file, method, limit (largest absolute value), seen_box (left, top, right, bottom in pixels of the photo),
            maps (each with label, value and grid, rows of numbers over the box), error (a sentence, else null).
        """
        path, name = file_of(image)
        try:
            detector, encoder = open_detector(store, DetectorRequest(classes, backbone=store.default))
            maps, _ = encoder.explain(detector, read_photo(path, name), class_name or None, method, target)
        except (Problem, UserError) as error:
            return {"file": name, "method": method, "limit": None, "seen_box": None, "maps": [], "error": str(error)}
        drawn = [
            {"label": one.label, "value": one.value, "grid": values.tolist()}
            for one, values in zip(maps.targets, maps.values, strict=True)
        ]
        return {
            "file": name,
            "method": maps.method,
            "limit": maps.limit,
            "seen_box": list(maps.box),
            "maps": drawn,
            "error": None,
        }

    gr.api(score, api_name="score", concurrency_id="verdicts", concurrency_limit=AT_ONCE)
    gr.api(heatmap, api_name="heatmap", concurrency_id="model", concurrency_limit=2)
