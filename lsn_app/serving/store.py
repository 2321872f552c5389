"""What the server keeps between questions: loaded backbones, shipped detectors, features of photos and texts."""

from __future__ import annotations

import json
import logging
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lsn_app.serving import accelerator
from lsn_app.serving.accelerator import load_backbone
from lsn_app.serving.photos import Item, Photo
from lsn_core import Backbone, Detector, UserError
from lsn_core.backbones.backbone import EMBEDDED
from lsn_core.backbones.image_tower import View, look
from lsn_core.data.images import open_image
from lsn_core.detector.file import read_detector_file
from lsn_core.heatmaps.maps import HeatMaps, explain
from lsn_core.jobs import Jobs

log = logging.getLogger(__name__)

SUGGESTED = (EMBEDDED, "ViT-B-16:openai", "ViT-B-32:laion2b_s34b_b79k", "RN50x4:openai")
DETECTORS_DIR = Path(__file__).resolve().parents[2] / "checkpoints" / "detectors"
_PHOTOS, _TEXTS, _BACKBONES, _DETECTORS, _VIEWS, _LENT = 8192, 20_000, 3, 8, 4, 1024
_BATCH, _BATCH_PIXELS = 32, 50_000_000  # what is decoded at a time: about 0.2 GB, however large the photos are
_MAX_DETECTOR_BYTES = 256 * 2**20  # of an uploaded file; a thousand classes with learned contexts take about 120 MiB


class LRU:
    """A dictionary of bounded size for many threads; what was used longest ago goes first."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Any:
        """The value, or None."""
        with self._lock:
            if key in self._items:
                self._items.move_to_end(key)
            return self._items.get(key)

    def put(self, key: Hashable, value: Any) -> None:
        """Keeps a value, forgetting the oldest where there is no room."""
        with self._lock:
            self._items[key] = value
            self._items.move_to_end(key)
            while len(self._items) > self._size:
                self._items.popitem(last=False)


class Encoder:
    """A backbone that encodes each photo and each text once; everything else is the backbone's own."""

    def __init__(self, backbone: Backbone, photos: LRU, texts: LRU) -> None:
        self.backbone = backbone
        self._photos, self._texts = photos, texts
        self._views = LRU(_VIEWS)
        self._lock = threading.Lock()  # one forward pass at a time: two would only halve each other's speed

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backbone, name)

    def encode_images(self, images: Sequence[Image.Image]) -> Tensor:
        """Features of pictures, shape (N, D), one batch at a time."""
        with self._lock:
            return accelerator.run(self.backbone.encode_images, images)

    def __reduce__(self) -> Any:
        return accelerator.by_name(self.backbone)  # what a call on another device needs of it

    def encode_photo(self, photo: Photo) -> Tensor:
        """Feature of a photo, shape (1, D). Raises ImageError for one that cannot be read."""
        key = (self.backbone.fingerprint, photo.sha256)
        feature = self._photos.get(key)
        if feature is None:
            feature = self.encode_images([open_image(photo.path, name=photo.name)])
            self._photos.put(key, feature)
        return feature

    def encode_many(
        self,
        items: Sequence[Item],
        on_done: Callable[[int], object] = lambda count: None,
        on_picture: Callable[[int, Image.Image], object] = lambda place, picture: None,
    ) -> list[Tensor | UserError]:
        """Features of many photos, each of shape (1, D), or why there is none; those not met before go in batches.

        Args:
            on_done: called with the number of photos done since it was called last.
            on_picture: called with place and picture of each photo that had to be decoded.
        """
        found: list[Any] = [None] * len(items)
        waiting: dict[str, tuple[Image.Image, list[int]]] = {}  # by content, so that equal photos wait together

        def encode() -> None:
            features = self.encode_images([picture for picture, _ in waiting.values()])
            for (sha256, (_, places)), feature in zip(waiting.items(), features.split(1), strict=True):
                self._photos.put((self.backbone.fingerprint, sha256), feature)
                for place in places:
                    found[place] = feature
            on_done(sum(len(places) for _, places in waiting.values()))
            waiting.clear()

        for place, item in enumerate(items):
            try:
                found[place] = self._photos.get((self.backbone.fingerprint, item.sha256))
                if found[place] is not None:
                    on_done(1)
                elif item.sha256 in waiting:
                    waiting[item.sha256][1].append(place)
                else:
                    picture = open_image(item.read(), name=item.name)
                    on_picture(place, picture)
                    waiting[item.sha256] = picture, [place]
            except UserError as error:
                found[place] = error
                on_done(1)
            if len(waiting) == _BATCH or sum(p.width * p.height for p, _ in waiting.values()) > _BATCH_PIXELS:
                encode()
        if waiting:
            encode()
        return found

    def look(self, photo: Photo) -> tuple[View, Image.Image]:
        """What heat maps of a photo need, and the photo. Raises ImageError for one that cannot be read."""
        found = self._views.get(photo.sha256)
        if found is None:
            picture = open_image(photo.path, name=photo.name)
            with self._lock:
                found = look(self.backbone, picture), picture
            self._views.put(photo.sha256, found)
        return found

    def explain(
        self, detector: Detector, photo: Photo, class_name: str | None, method: str, target: str
    ) -> tuple[HeatMaps, Image.Image]:
        """`heatmaps.explain` of a photo, and the photo. Raises UserError as that and `look` do."""
        if accelerator.LENT and type(detector) is Detector:  # others hold parts of the model, and stay here
            picture = open_image(photo.path, name=photo.name)
            with self._lock:
                return accelerator.run(_look_and_explain, detector, picture, class_name, method, target), picture
        view, picture = self.look(photo)
        return explain(detector, view, class_name, method, target), picture

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Features of texts, shape (N, D); only those not met before go through the text tower."""
        found = {text: self._texts.get((self.backbone.fingerprint, text)) for text in texts}
        missing = [text for text, feature in found.items() if feature is None]
        if missing:
            with self._lock:
                features = accelerator.run(self.backbone.encode_texts, missing)
            for text, feature in zip(missing, features, strict=True):
                found[text] = feature
                self._texts.put((self.backbone.fingerprint, text), feature)
        return torch.stack([found[text] for text in texts])

    def zero_shot(self, class_names: Sequence[str]) -> Detector:
        """`Detector.zero_shot` with the texts taken from the cache."""
        return Detector.zero_shot(cast(Backbone, self), class_names)


def _look_and_explain(detector: Detector, picture: Image.Image, *about: Any) -> HeatMaps:
    return explain(detector, look(detector.backbone, picture), *about)


class Store:
    """Backbones by name and detectors by file, each loaded once.

    Attributes:
        public: whether strangers choose: then only the suggested backbones are loaded.
        default: the backbone that the page starts with.
        detectors: label -> file of the detectors that ship.
        jobs: the training jobs, or None where there are none.
    """

    def __init__(
        self,
        default: str = EMBEDDED,
        *,
        public: bool = False,
        detectors_dir: Path = DETECTORS_DIR,
        jobs: Jobs | None = None,
    ) -> None:
        self.default = default
        self.public = public
        self.jobs = jobs
        self.detectors = {path.stem: path for path in sorted(detectors_dir.glob("*.safetensors"))}
        self._photos, self._texts = LRU(_PHOTOS), LRU(_TEXTS)
        self._encoders, self._loaded = LRU(_BACKBONES), LRU(_DETECTORS)
        self._lent, self._offers = LRU(_LENT), LRU(_LENT)
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    @property
    def choices(self) -> list[str]:
        """Backbones to offer."""
        return list(dict.fromkeys((self.default, *SUGGESTED)))

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

    def lend(self, path: Path, title: str = "", session: str | None = None) -> str:
        """Lets whoever knows the label it returns use a detector file, as if it had shipped.

        Args:
            title: what to call it where it is offered.
            session: of the only visitor whom it is offered to.
        """
        lent = self._offers.get(session) or []
        label = next((label for _, label in lent if self._lent.get(label) == path), f"lent-{secrets.token_hex(12)}")
        self._lent.put(label, path)
        if session is not None:
            self._offers.put(session, [*(offer for offer in lent if offer[1] != label), (title, label)])
        return label

    def take_in(self, path: Path, name: str, session: str | None) -> str:
        """Lends a visitor the detector file that they uploaded, once it was seen to work; see `lend`.

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
            said = str(error).replace(path.name, name)
            raise UserError(said if name in said else f"{name}: {said}") from error
        except Exception as error:  # security: a file from anywhere can be wrong in any way that tensors can
            log.info("an uploaded detector does not work", exc_info=True)
            raise UserError(f"{name} is not a usable detector file: its parts do not fit each other.") from error
        return self.lend(path, f"{name} (uploaded)", session)

    def offered(self, session: str | None) -> list[tuple[str, str]]:
        """Title and label of each detector that a visitor may choose: those that ship, and those lent to them alone."""
        return [*((label, label) for label in self.detectors), *(self._offers.get(session) or [])]

    def detector(self, label: str) -> tuple[Detector, Encoder]:
        """A shipped or lent detector and its backbone, loaded at the first call.

        Raises:
            UserError: it cannot be used.
        """
        path = self.detectors.get(label) or self._lent.get(label)
        if path is None:
            raise UserError(f"There is no detector called {label!r} here. Choose another.")
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
            return load_backbone(name)
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
