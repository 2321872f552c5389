"""What the server keeps between questions: loaded backbones, shipped detectors, features of photos and texts."""

from __future__ import annotations

import json
import logging
import secrets
import threading
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from lsn_app.serving.accelerator import ZERO_GPU, load_backbone
from lsn_app.serving.compiling import compile_beside
from lsn_app.serving.encoder import Encoder
from lsn_app.serving.lru import _BACKBONES, _DETECTORS, _PHOTOS, _PREPARED, _REGISTERED, _TEXTS, LRU
from lsn_core import Backbone, Detector, UserError
from lsn_core.backbones.loading import EMBEDDED
from lsn_core.detector.file import read_detector_file
from lsn_core.jobs import Jobs
from lsn_core.shipped import DETECTORS_DIR
from lsn_core.suggested import SUGGESTIONS

log = logging.getLogger(__name__)

SUGGESTED = tuple(one.name for one in SUGGESTIONS)
# What strangers may have loaded: several of them fit beside one another, and nothing has to be installed.
_FOR_STRANGERS = tuple(one.name for one in SUGGESTIONS if one.weights_gib < 0.75 and not one.needs)
PRIVATE = "private-"  # what labels of detectors begin with that are a visitor's alone
_MAX_DETECTOR_BYTES = 256 * 2**20  # of an uploaded file; a thousand classes with learned contexts take about 120 MiB


class Store:
    """Backbones by name and detectors by file, each loaded once.

    Attributes:
        public: whether strangers choose: then only suggested backbones that are not large are loaded.
        default: the backbone that the page starts with.
        detectors: label -> file of the detectors that ship.
        jobs: the training jobs, or None where there are none.
        compiling: whether image towers are compiled for the CPU, beside the answers.
        on_verdict: called with each verdict that is given, "ID" or "OOD".
    """

    def __init__(
        self,
        default: str = EMBEDDED,
        *,
        public: bool = False,
        detectors_dir: Path = DETECTORS_DIR,
        jobs: Jobs | None = None,
        compiling: bool = False,
    ) -> None:
        self.default = default
        self.public = public
        self.jobs = jobs
        self._compiling = compiling
        self.on_verdict: Callable[[str], object] = lambda verdict: None
        self.detectors = {path.stem: path for path in sorted(detectors_dir.glob("*.safetensors"))}
        self._photos, self._texts = LRU(_PHOTOS), LRU(_TEXTS)
        self._encoders, self._loaded = LRU(_BACKBONES), LRU(_DETECTORS)
        self._prepared, self._labels = LRU(_PREPARED), LRU(_REGISTERED)
        self._registered, self._offers = LRU(_REGISTERED), LRU(_REGISTERED)
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    @property
    def choices(self) -> list[str]:
        """Backbones to offer."""
        return list(dict.fromkeys((self.default, *(_FOR_STRANGERS if self.public else SUGGESTED))))

    def encoder(self, name: str | None) -> Encoder:
        """A backbone by name, loaded at the first call.

        Raises:
            UserError: it is not known, not allowed here, or its weights cannot be had.
        """
        name = (name or "").strip() or self.default
        # security: a name can be a path on this machine, or a repository to download from.
        if self.public and name not in self.choices:
            raise UserError(f"This server runs only these backbones: {', '.join(self.choices)}. Choose one of them.")
        return self._open(name)

    def register(self, path: Path, title: str = "", session: str | None = None) -> str:
        """Lets whoever knows the label that it returns use a detector file, as if it had shipped.

        Args:
            title: what to call it where it is offered.
            session: of the only visitor whom it is offered to.
        """
        label = self._labels.get((session, path)) or f"{PRIVATE}{secrets.token_hex(12)}"
        self._labels.put((session, path), label)
        self._registered.put(label, path)
        if session is not None:
            offers = self._offers.get(session) or []
            self._offers.put(session, [*(offer for offer in offers if offer[1] != label), (title, label)])
        return label

    def add_upload(self, path: Path, name: str, session: str | None) -> str:
        """Registers the detector file that a visitor uploaded for them alone, once it was seen to work.

        Raises:
            UserError: it is no such file, too large, damaged, or made for another backbone.
        """
        try:
            if path.stat().st_size > _MAX_DETECTOR_BYTES:
                raise UserError(f"{name}: the file is larger than the limit of {_MAX_DETECTOR_BYTES >> 20} MiB.")
            backbone = read_detector_file(path)[0]["backbone"]
            if self.public and backbone not in self.choices:
                raise UserError(
                    f"{name} was made with the backbone {backbone!r}, and this server runs only these: "
                    f"{', '.join(self.choices)}."
                )
            detector, encoder = self._open_detector(path)
            detector.predict_features(encoder.encode_texts(["a photo"]))  # its parts may still not fit each other
        except UserError as error:
            sentence = str(error).replace(path.name, name)
            raise UserError(sentence if name in sentence else f"{name}: {sentence}") from error
        except Exception as error:  # security: a file from anywhere can be wrong in any way that tensors can
            log.info("an uploaded detector does not work", exc_info=True)
            raise UserError(f"{name} is not a usable detector file: its parts do not fit each other.") from error
        return self.register(path, f"{name} (uploaded)", session)

    def offered(self, session: str | None, owner: str | None = None) -> list[tuple[str, str]]:
        """Title and label of each saved detector that a visitor may choose: those that ship, and their own.

        Args:
            session: of the page, which may have uploaded some.
            owner: whose finished jobs count.
        """
        trained = []
        if self.jobs is not None and owner:
            done = [job for job in self.jobs.list(owner) if job.result]
            trained = [(f"{job.name} (my job)", self.register(self.jobs.result(job.id))) for job in done]
        return [*((label, label) for label in self.detectors), *trained, *(self._offers.get(session) or [])]

    def prepare(self, key: tuple[Hashable, ...], make: Callable[[], Detector]) -> Detector:
        """The detector kept under a key, made where there is none: of typed classes, or calibrated by a visitor."""
        detector: Detector | None = self._prepared.get(key)
        if detector is None:
            detector = make()
            self._prepared.put(key, detector)
        return detector

    def detector(self, label: str) -> tuple[Detector, Encoder]:
        """A saved detector and its backbone, loaded at the first call.

        Raises:
            UserError: it cannot be used.
        """
        path = self.detectors.get(label) or self._registered.get(label)
        if path is None:
            raise UserError(f"There is no detector called {label[:60]!r} here. Choose another.")
        if not path.exists():
            raise UserError("The detector is no longer on the server. Upload it again, or choose another.")
        return self._open_detector(path)

    def _open_detector(self, path: Path) -> tuple[Detector, Encoder]:
        try:
            with safe_open(path, framework="pt") as file:
                backbone = str(json.loads((file.metadata() or {})["lsn"])["backbone"])
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path.name} is not a detector file, or it is damaged. Choose another.") from error
        encoder = self._open(backbone)
        return self._once(self._loaded, str(path), lambda: Detector.load(path, encoder.backbone)), encoder

    def _open(self, backbone: str) -> Encoder:
        return self._once(self._encoders, backbone, lambda: Encoder(self._load(backbone), self._photos, self._texts))

    def _load(self, name: str) -> Backbone:
        try:
            backbone = load_backbone(name)
            if self._compiling and not ZERO_GPU:
                compile_beside(backbone)
            return backbone
        except UserError:
            if not self.public:
                raise
            log.exception("the backbone %s could not be loaded", name)  # its message may hold a path
            raise UserError(f"The weights of {name} cannot be had on this server. Choose another backbone.") from None

    def _once(self, kept: LRU, key: str, make: Callable[[], Any]) -> Any:
        with self._guard:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:  # one lock a name: a long download of one backbone keeps nobody from using another
            value = kept.get(key)
            if value is None:
                value = make()
                kept.put(key, value)
            return value
