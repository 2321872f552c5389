"""The public endpoint of the tab on "not": `/probe`."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.data_classes import FileData

from lsn_app.negation.answer import probe_line
from lsn_app.serving.encoder import AT_ONCE
from lsn_app.serving.store import Store
from lsn_app.shared.photo_input import file_of


def build_endpoint(store: Store) -> None:
    """Adds it to the page that is being built."""

    def probe(image: FileData, texts: list[str]) -> dict[str, Any]:
        """Has CLIP choose the text that describes a photo, such as one with and one without "not".

        Args:
            image: the photo (JPEG, PNG, WebP, BMP, GIF or TIFF), uploaded, or over MCP a data URL. No address
                is fetched.
            texts: two or more texts to choose from.

        Returns:
            file, texts, cosines and probabilities (at the model's own temperature) in the order of the texts, chosen
            (the text that fits best), error (a sentence where there is no choice, else null).
        """
        return probe_line(store, *file_of(image), texts)

    gr.api(probe, api_name="probe", concurrency_id="verdicts", concurrency_limit=AT_ONCE)
