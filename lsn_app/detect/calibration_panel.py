"""The Detect tab's calibration: the wanted true positive rate, and photos of known classes for the threshold."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from lsn_app.detect.words import dropped_note
from lsn_app.serving.photos import Photo, read_file, read_photo
from lsn_app.serving.requests import DetectorRequest, open_saved
from lsn_app.serving.store import Store
from lsn_app.shared import words
from lsn_app.shared.components import Components, Updates
from lsn_app.shared.messages import hidden_if_empty, message, progress_bar
from lsn_core import UserError
from lsn_core.calibration import DEFAULT_TPR, Calibration
from lsn_core.data.collection import ImageList

MAX_PHOTOS = 500
LOWEST, HIGHEST = 0.80, 0.99


@dataclass(frozen=True)
class CalibrationSet:
    """Photos of the known classes.

    Attributes:
        photos: the photos.
        belongs_to: which detector they calibrate, as `DetectorRequest.identity` tells; no other one.
    """

    photos: tuple[Photo, ...]
    belongs_to: tuple[str, ...]


class CalibrationPanel:
    """The components, and how the photos are taken.

    Attributes:
        tpr: the slider, which is of use once there is a calibration.
        state: the CalibrationSet, or None.
        message: where mistakes are told.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.state = gr.State(None)
        self.tpr = gr.Slider(
            LOWEST,
            HIGHEST,
            value=DEFAULT_TPR,
            step=0.01,
            label="Share of known photos to keep (true positive rate)",
            info="Moves the threshold of a calibrated detector.",
            interactive=False,
            elem_id="lsn-tpr",
        )
        self.files = gr.File(
            label=f"Calibrate with photos of the known classes ({Calibration.images_needed()} or more for 95 %)",
            file_count="multiple",
            file_types=["image"],
            height=120,
            elem_id="lsn-files",
        )
        self.note = gr.HTML(visible=False, elem_id="lsn-calibration-note")
        self.message = message("lsn-message-calibration")

    @property
    def outputs(self) -> Components:
        """The components that the functions below update."""
        return [self.state, self.files, self.note]

    def take(self, files: list[tuple[str, str]], wanted: DetectorRequest, progress: gr.Progress) -> Updates:
        """Reads and encodes the calibration photos of a detector; unusable ones are named and left out.

        Args:
            files: path and name of each.
        """
        try:
            if len(files) > MAX_PHOTOS:
                raise UserError(f"{len(files)} photos were given; at most {MAX_PHOTOS} are taken. Give fewer.")
            encoder = open_saved(self.store, wanted.label, wanted.backbone)[1]
        except UserError as error:
            return {self.state: None, self.note: hidden_if_empty(words.problem(str(error)))}
        images = ImageList(tuple(name for _, name in files), lambda index: read_file(*files[index]))
        encoded = encoder.encode_all(images, progress_bar(progress, "Reading calibration photos"))
        used = [read_photo(*files[index]) for index in encoded.kept.tolist()]
        refused = [problem for _, problem in encoded.errors]
        note = words.note(f"{len(used)} of {len(files)} photos are used for calibration.") if files else ""
        if refused:
            more = f" And {len(refused) - 3} more could not be read." if len(refused) > 3 else ""
            note += words.problem(" ".join(refused[:3]) + more)
        taken = CalibrationSet(tuple(used), wanted.identity) if used else None
        return {self.state: taken, self.note: hidden_if_empty(note)}

    def drop_unless_for(self, taken: CalibrationSet | None, wanted: DetectorRequest) -> Updates:
        """Takes a calibration away that belongs to another detector, and says so; else changes nothing."""
        if taken is None or taken.belongs_to == wanted.identity:
            return {}
        note = hidden_if_empty(dropped_note(len(taken.photos)))
        return {self.state: None, self.files: None, self.note: note}
