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
from lsn_app.shared.examples import Example, credits_list, load_examples, strip
from lsn_core import UserError
from lsn_core.data.formats import HEIF_SUFFIXES
from lsn_core.data.images import open_image
from lsn_core.shipped import ASSETS_DIR

_NO_BROWSER_FORMATS = {".tif", ".tiff", *HEIF_SUFFIXES}
_PREVIEW = (1024, 1024)
_MOST_FOLDERS = 12
_STRIP_JS = ASSETS_DIR / "examples.js"


class PhotoInput:
    """A photo's components: a row of examples at once, the photo where `build` is called, credits by `build_credits`.

    Functions of events return updates of these beside their own.

    Args:
        prefix: what the components' ids begin with.
        height: of the photo, pixels.
        first: the example that is there when the page opens, or None.

    Attributes:
        state: the Photo, or None.
        image, own, credit, message, gallery: what is seen.
    """

    def __init__(self, prefix: str, height: int = 300, first: Example | None = None) -> None:
        self.examples = load_examples()
        self.gallery = gr.HTML(
            strip(self.examples),
            js_on_load=_STRIP_JS.read_text(encoding="utf-8"),
            apply_default_css=False,
            elem_id=f"{prefix}-examples",
            visible=bool(self.examples),
            padding=False,
        )
        self.prefix, self.height, self.first = prefix, height, first
        self.state = gr.State(read_photo(str(first.path), first.path.name) if first else None)

    def build(self) -> None:
        """The photo and what is said of it."""
        prefix, first = self.prefix, self.first
        self.image = gr.Image(
            str(first.path) if first else None,
            label="Photo",
            show_label=False,
            type="filepath",
            image_mode=None,
            sources=["upload", "webcam", "clipboard"],
            height=self.height,
            elem_id=f"{prefix}-photo",
            elem_classes="lsn-photo",
            buttons=["fullscreen"],
        )
        self.message = gr.HTML(visible=False, elem_id=f"{prefix}-message-photo")
        self.own = gr.UploadButton("Your own photo", file_types=["image"], size="sm", elem_id=f"{prefix}-upload")

    def build_credits(self) -> None:
        """The attribution of the photo, and those of all examples to be folded out."""
        credit = "" if self.first is None else _credit(self.first)
        self.credit = gr.HTML(credit, elem_id=f"{self.prefix}-credit", visible=bool(credit))
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
        return photo, {
            self.state: photo,
            self.image: str(example.path),
            self.credit: gr.update(value=_credit(example), visible=True),
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


def _credit(example: Example) -> str:
    return f'<p class="lsn-credit" data-example="{escape(example.path.name)}">Photo: {example.credit()}</p>'


def file_of(payload: UploadedFile | FileData) -> tuple[str, str]:
    """Path and original name of an uploaded file, from Gradio's description of it."""
    path, name = _named(payload)
    return path, Path(name).name


def file_in_folder(payload: UploadedFile | FileData) -> tuple[str, str]:
    """Path and original name of an uploaded file, with the folders that it was in as far as the browser told them."""
    path, name = _named(payload)
    # security: the name comes from the visitor and goes into zips: no way up, no absolute path.
    parts = [part for part in name.replace("\\", "/").split("/") if part.strip(". ")]
    return path, "/".join(parts[-_MOST_FOLDERS:]) or Path(path).name


def _named(payload: UploadedFile | FileData) -> tuple[str, str]:
    fields = payload if isinstance(payload, Mapping) else payload.model_dump()
    path = str(fields.get("path") or "")
    return path, str(fields.get("orig_name") or Path(path).name)
