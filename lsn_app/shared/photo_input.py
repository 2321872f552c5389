"""The photo of a tab: dropped, pasted or picked among the examples, with its credit and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path

import gradio as gr
from gradio.data_classes import FileData

from lsn_app.serving.photos import Photo, read_photo
from lsn_app.shared import words
from lsn_app.shared.components import Components, Updates, UploadedFile
from lsn_app.shared.examples import Example, credits_list, load_examples
from lsn_core import UserError
from lsn_core.data.images import open_image

_NO_BROWSER_FORMATS = (".tif", ".tiff")
_PREVIEW = (1024, 1024)


class PhotoInput:
    """A photo's components. Functions of events return updates of these beside their own.

    Args:
        prefix: what the components' ids begin with.
        hint: a line below the photo, as HTML.
        height: of the photo, pixels.

    Attributes:
        state: the Photo, or None.
        image, credit, message, gallery: what is seen.
    """

    def __init__(self, prefix: str, height: int = 300, hint: str = "") -> None:
        self.examples = load_examples()
        self.state = gr.State(None)
        self.image = gr.Image(
            label="Photo",
            type="filepath",
            image_mode=None,
            sources=["upload", "clipboard"],
            height=height,
            elem_id=f"{prefix}-photo",
            buttons=["fullscreen"],
        )
        self.message = gr.HTML(visible=False, elem_id=f"{prefix}-message-photo")
        self.credit = gr.HTML(elem_id=f"{prefix}-credit", visible=False)
        gr.HTML(f'<p class="lsn-note">{hint}</p>', visible=bool(hint))
        gr.HTML('<h3 class="lsn-heading">Or pick an example</h3>', visible=bool(self.examples))
        self.gallery = gr.Gallery(
            [(str(example.path), example.label) for example in self.examples],
            label="Examples",
            show_label=False,
            columns=8,
            height="auto",
            object_fit="cover",
            allow_preview=False,
            interactive=False,
            buttons=[],
            elem_id=f"{prefix}-examples",
            elem_classes="lsn-examples",
            visible=bool(self.examples),
        )
        gr.HTML(credits_list(self.examples), visible=bool(self.examples))

    @property
    def outputs(self) -> Components:
        """The components that the updates below are for."""
        return [self.state, self.image, self.credit, self.message]

    def upload(self, payload: UploadedFile) -> tuple[Photo | None, Updates]:
        """An uploaded photo and what shows it; None where the file cannot be used, which is then said."""
        path, name = file_of(payload)
        photo, updates = self.take(path, name)
        if updates.get(self.image) == path:
            del updates[self.image]  # it is there already
        return photo, updates

    def take(self, path: str, name: str, credit: str = "") -> tuple[Photo | None, Updates]:
        """A photo by its path and what shows it; None where it cannot be used, which is then said.

        Args:
            credit: what to say of where it is from, as HTML.
        """
        updates: Updates = {
            self.image: path,
            self.credit: gr.update(value=f'<p class="lsn-credit">{credit}</p>', visible=bool(credit)),
            self.message: gr.update(visible=False),
        }
        try:
            photo = read_photo(path, name)
            if Path(name).suffix.lower() in _NO_BROWSER_FORMATS:
                preview = open_image(path, name=name)
                preview.thumbnail(_PREVIEW)
                updates[self.image] = preview
        except UserError as error:
            return None, self.refuse(str(error))
        return photo, updates | {self.state: photo}

    def example(self, example: Example) -> tuple[Photo, Updates]:
        """An example photo and what shows it; the address of the page reads from it which one it is."""
        photo = read_photo(str(example.path), example.path.name)
        credit = f'<p class="lsn-credit" data-example="{escape(example.path.name)}">Photo: {example.credit()}</p>'
        return photo, {
            self.state: photo,
            self.image: str(example.path),
            self.credit: gr.update(value=credit, visible=True),
            self.message: gr.update(visible=False),
        }

    def refuse(self, sentence: str) -> Updates:
        """No photo, and the reason."""
        return self.drop() | {self.image: None, self.message: gr.update(value=words.problem(sentence), visible=True)}

    def drop(self) -> Updates:
        """No photo."""
        return {self.state: None, self.credit: gr.update(visible=False), self.message: gr.update(visible=False)}

    def find(self, file_name: str) -> Example | None:
        """The example of that file name."""
        return next((example for example in self.examples if example.path.name == file_name), None)


def file_of(payload: UploadedFile | FileData) -> tuple[str, str]:
    """Path and original name of an uploaded file, from Gradio's description of it."""
    fields = payload if isinstance(payload, Mapping) else payload.model_dump()
    path = str(fields.get("path") or "")
    return path, Path(str(fields.get("orig_name") or path)).name
