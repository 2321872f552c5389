"""How long a job may take here before there was a first one: a few steps of each recipe are tried, once."""

from __future__ import annotations

import threading
import time

from lsn_app.serving import accelerator
from lsn_app.serving.store import Store
from lsn_app.shared.examples import load_examples
from lsn_core import UserError
from lsn_core.data.images import open_image
from lsn_core.training.estimate import estimate_seconds
from lsn_core.training.presets import PRESETS

CLASSES, PHOTOS = 10, 64
_PICTURES = 4


class Trial:
    """What was tried, on the backbone that the page starts with."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._lock = threading.Lock()
        self._seconds: dict[str, float] | None = None

    @property
    def done(self) -> bool:
        """Whether `seconds` is at hand at once."""
        return self._seconds is not None

    def seconds(self) -> dict[str, float]:
        """Seconds of a job of 10 classes of 64 photos, by recipe; empty where nothing can be tried."""
        with self._lock:
            if self._seconds is None:
                self._seconds = self._try()
        return self._seconds

    def _try(self) -> dict[str, float]:
        if accelerator.ZERO_GPU:  # which would be waited for
            return {}
        try:
            encoder = self.store.encoder(self.store.default)
            begun = time.perf_counter()
            pictures = [open_image(example.path) for example in load_examples()[:_PICTURES]]
            if pictures:
                encoder.encode_images(pictures)
            reading = (time.perf_counter() - begun) / max(1, len(pictures)) * CLASSES * PHOTOS
            return {
                name: reading + estimate_seconds(encoder.backbone, config, CLASSES, PHOTOS)
                for name, config in PRESETS.items()
            }
        except UserError:
            return {}  # a backbone that cannot learn prompts, which starting a job says
