"""The actor that holds a backbone on a machine of a cluster, and encodes parts of a collection of images."""

from __future__ import annotations

import hashlib
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from lsn_core.cluster.crew import Greeting
from lsn_core.data.collection import ImageCollection, ImageList
from lsn_core.data.feature_stream import FeatureStream, ImageEncoder, Unopened, unopened
from lsn_core.errors import UserError

Reopen = Callable[[], ImageCollection]
"""Opens a collection again, in another process; can be pickled."""


@dataclass(frozen=True)
class Orders:
    """What a worker has to know before it begins.

    Attributes:
        load: gives the backbone, the same as that of whoever asks; can be pickled.
        name: of the backbone, for messages.
        fingerprint: of the backbone.
        version: of lsn_core.
        runtime: what runs the image tower, "eager" or "openvino"; None for what the worker finds best, on GPUs.
        bf16: whether it computes in bf16.
        threads: CPUs that the worker has.
        folder: which relative paths are relative to.
        reopen: opens the images where the worker is; None where they are to be sent.
        mark: of the images, see `mark_of`.
        batch_size: most pictures encoded at once.
        keyed: whether content keys of images are wanted back.
    """

    load: Callable[[], ImageEncoder]
    name: str
    fingerprint: str
    version: str
    runtime: str | None
    bf16: bool
    threads: int
    folder: str
    reopen: Reopen | None
    mark: str
    batch_size: int
    keyed: bool


@dataclass(frozen=True)
class Part:
    """Images start to stop - 1 of a collection.

    Attributes:
        sent: them themselves, or the content key of one whose feature is known; None for a worker that sees them.
    """

    start: int
    stop: int
    sent: tuple[Unopened | bytes, ...] | None = None


@dataclass
class Encoded:
    """What became of n images.

    Attributes:
        rows: features, float32, shape (n, D); zero where there is none.
        errors: place in [0, n) -> why there is none.
        kept: places of those that are known already, by their content.
        keys: SHA-256 of each image's bytes, 32 bytes each, or empty; none at all where they were not asked for.
        warnings: sentences about images that are used although their files are not as they should be.
    """

    rows: np.ndarray
    errors: dict[int, UserError] = field(default_factory=dict)
    kept: list[int] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class FeatureWorker:
    """Encodes parts of a collection. The backbone is loaded once, with the greeting."""

    def greet(self, orders: Orders, known: np.ndarray | None) -> Greeting:
        """Makes ready, and says where this is. Raises UserError as `prepare` does."""
        import ray

        sees = self.prepare(orders, known)
        return Greeting(ray.get_runtime_context().get_node_id(), sees)

    def prepare(self, orders: Orders, known: np.ndarray | None) -> bool:
        """Loads the backbone and looks for the images.

        Args:
            known: content keys whose features need not be computed, sorted, dtype S32.

        Returns:
            Whether the images are here.

        Raises:
            UserError: this machine cannot give the features that are asked for; the message names it.
        """
        try:
            self._load(orders)
        except UserError as error:
            raise UserError(f"{socket.gethostname()} cannot help: {error}") from error
        self._orders, self._known, self._reading = orders, known, threading.Lock()
        self._steps: dict[int, int] = {}  # of the parts at work, by their starts
        self._images = find_images(orders)
        return self._images is not None

    def _load(self, orders: Orders) -> None:
        import torch

        if (version := own_version()) != orders.version:
            raise UserError(f"it has lsn-core {version}, not {orders.version}. Install the same on all machines.")
        if orders.runtime is not None:
            os.environ["LSN_RUNTIME"] = orders.runtime  # of this process, which has no other purpose
        torch.set_num_threads(orders.threads)
        if os.path.isdir(orders.folder):
            os.chdir(orders.folder)
        self._backbone = orders.load()
        runtime = getattr(self._backbone, "runtime", None)
        if runtime is not None:
            if orders.bf16:
                runtime.use_bf16()
            elif orders.runtime == "openvino" and not runtime.compile():
                raise UserError(
                    "it cannot compile the image tower, which PyTorch would run with other last digits. Set "
                    "LSN_RUNTIME=eager where you start, so that PyTorch runs it everywhere."
                )
        if self._backbone.fingerprint != orders.fingerprint:
            raise UserError(
                f"its backbone {orders.name} has other weights, settings or libraries than the one here, and would "
                "give other features. Copy the weights, or install the same versions on all machines."
            )

    def encode(self, part: Part) -> Encoded:
        """Features of some images, or the errors about them."""
        self._steps[part.start] = 0
        try:
            return self._encode(part)
        finally:
            del self._steps[part.start]

    def progress(self, start: int) -> int | None:
        """How far it is with the part that begins there: a number that grows with each image read and each encoded.

        Returns:
            None for a part that has not come yet, or is done.
        """
        return self._steps.get(start)

    def _encode(self, part: Part) -> Encoded:
        result = Encoded(np.zeros((part.stop - part.start, self._backbone.dim), np.float32))
        places: list[int] = []

        def warn(_name: str | None, sentence: str) -> None:
            result.warnings.append(sentence)

        stream = FeatureStream(self._backbone, None, self._orders.batch_size, on_warning=warn)
        for index, found in stream.run(self._fresh(part, result, places), part.stop - part.start):
            self._steps[part.start] += 1
            if isinstance(found, UserError):
                result.errors[places[index]] = found
            else:
                result.rows[places[index]] = found
        return result

    def _read(self, part: Part) -> Iterable[Unopened | bytes]:
        if part.sent is not None:
            return part.sent
        images = self._images
        assert images is not None

        def read(index: int) -> bytes:
            with self._reading:  # two parts are at work at a time
                return images.read(part.start + index)

        return unopened(ImageList(tuple(images.names[part.start : part.stop]), read))

    def _fresh(self, part: Part, result: Encoded, places: list[int]) -> Iterator[Unopened]:
        """Those whose features are not known, with the place of each."""
        for place, image in enumerate(self._read(part)):
            self._steps[part.start] += 1
            if isinstance(image, bytes):
                result.keys.append(image)
                result.kept.append(place)
                continue
            if self._orders.keyed:
                key = hashlib.sha256(image.source).digest() if isinstance(image.source, bytes) else b""
                result.keys.append(key)
                if self._known is not None and key and _is_among(key, self._known):
                    result.kept.append(place)
                    continue
            places.append(place)
            yield image


def own_version() -> str:
    """The version of lsn_core that runs here, asked of the package, which is above this module."""
    return str(sys.modules["lsn_core"].__version__)


def _is_among(key: bytes, known: np.ndarray) -> bool:
    value = np.frombuffer(key, known.dtype)[0]
    place = int(np.searchsorted(known, value))
    return place < len(known) and bool(known[place] == value)


def find_images(orders: Orders) -> ImageCollection | None:
    """The images where this process is; None where they, or others than those meant, are not there."""
    if orders.reopen is None:
        return None
    try:
        images = orders.reopen()
        return images if mark_of(images) == orders.mark else None
    except UserError:
        return None


def mark_of(images: ImageCollection) -> str:
    """SHA-256 (hex) over all names and over the bytes of the first, the middle and the last image."""
    digest = hashlib.sha256()
    for name in images.names:
        digest.update(name.encode("utf-8", "backslashreplace") + b"\0")
    for index in sorted({0, len(images) // 2, len(images) - 1} if len(images) else ()):
        try:
            digest.update(images.read(index))
        except UserError as error:
            digest.update(str(error).encode("utf-8", "backslashreplace"))
    return digest.hexdigest()
