"""The Detect tab's calibration: the wanted true positive rate, and photos of known classes for the threshold."""

from __future__ import annotations

import gradio as gr

from lsn_app.serving.photos import read_file, read_photo
from lsn_app.serving.requests import open_saved
from lsn_app.serving.store import Store
from lsn_app.shared import words
from lsn_app.shared.components import Updates, UploadedFiles
from lsn_app.shared.messages import hidden_if_empty, message, progress_bar
from lsn_app.shared.photo_input import file_of
from lsn_core import UserError
from lsn_core.calibration import DEFAULT_TPR
from lsn_core.data.collection import ImageList

MAX_PHOTOS = 500
LOWEST, HIGHEST = 0.80, 0.99


class CalibrationPanel:
    """The components, and how the photos are taken.

    Attributes:
        tpr: the slider, which is of use once there is a calibration.
        state: the photos, a tuple of Photo.
        box: what a detector with a calibration of its own has no need of.
        message: where mistakes are told.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.state = gr.State(())
        self.tpr = gr.Slider(
            LOWEST,
            HIGHEST,
            value=DEFAULT_TPR,
            step=0.01,
            label="Share of known photos to keep (true positive rate)",
            info="Moves the threshold; works once the detector is calibrated.",
            interactive=False,
            elem_id="lsn-tpr",
        )
        with gr.Accordion("Calibrate with your own photos", open=False, elem_id="lsn-calibrate") as self.box:
            gr.Markdown(
                "Upload photos that **do** show your known classes (19 or more for a rate of 95 %). Their scores tell "
                "how low a known photo can score, and the threshold is set there."
            )
            self.files = gr.File(
                label="Calibration photos", file_count="multiple", file_types=["image"], height=140, elem_id="lsn-files"
            )
            self.note = gr.HTML(visible=False, elem_id="lsn-calibration-note")
            self.message = message("lsn-message-calibration")

    def take(
        self,
        payload: UploadedFiles,
        label: str,
        backbone: str,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Updates:
        """Reads and encodes the calibration photos; unusable ones are named and left out."""
        files = [file_of(item) for item in payload or ()]
        try:
            if len(files) > MAX_PHOTOS:
                raise UserError(f"{len(files)} photos were given; at most {MAX_PHOTOS} are taken. Give fewer.")
            encoder = open_saved(self.store, label, backbone)[1]
        except UserError as error:
            return {self.state: (), self.note: hidden_if_empty(words.problem(str(error)))}
        images = ImageList(tuple(name for _, name in files), lambda index: read_file(*files[index]))
        encoded = encoder.encode_all(images, progress_bar(progress, "Reading calibration photos"))
        used = [read_photo(*files[index]) for index in encoded.kept.tolist()]
        refused = [problem for _, problem in encoded.errors]
        text = words.note(f"{len(used)} of {len(files)} photos are used for calibration.") if files else ""
        if refused:
            more = f" And {len(refused) - 3} more could not be read." if len(refused) > 3 else ""
            text += words.problem(" ".join(refused[:3]) + more)
        return {self.state: tuple(used), self.note: hidden_if_empty(text)}
