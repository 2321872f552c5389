"""Features of a collection's images, in order, computed by the machines of a Ray cluster."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from lsn_core.backbones.backbone import Backbone
from lsn_core.backbones.loading import load_backbone
from lsn_core.cluster.address import chosen_address, connected
from lsn_core.cluster.crew import AT_ONCE, Crew, Greeting
from lsn_core.cluster.head import Head
from lsn_core.cluster.progress import Limit
from lsn_core.cluster.room import Room, find_room
from lsn_core.cluster.worker import Encoded, FeatureWorker, Orders, Part, Reopen, mark_of, own_version
from lsn_core.data.collection import ImageCollection, ImageList
from lsn_core.data.feature_cache import DiskFeatureCache
from lsn_core.data.feature_stream import FeatureStream, Unopened, unopened
from lsn_core.errors import UserError

log = logging.getLogger(__name__)

_MOST = 1024
"""Images in one task, at most: enough to read a row group of a Parquet file once, few enough to do them again."""
_TASKS = 16  # at least, for each worker, where there are enough images, so that all end at about the same time
_HUNG_AFTER = 600.0  # seconds without an image read or a batch encoded: far more than even a slow machine takes
_SENT_BYTES = 32 * 2**20  # of images in one task, beside the first, where they are sent


@dataclass(frozen=True)
class Cluster:
    """Which cluster to use, and how much of it.

    Attributes:
        address: see `lsn_core.cluster.address.connect`.
        workers: how many processes hold the backbone; None for one a GPU, or else one for each 8 CPUs.
        device: of the workers: auto, cpu or cuda.
    """

    address: str | None = None
    workers: int | None = None
    device: str = "auto"


def cluster_rows(
    cluster: Cluster,
    backbone: Backbone,
    images: ImageCollection,
    reopen: Reopen | None = None,
    cache: DiskFeatureCache | None = None,
    batch_size: int = 32,
    most: int = _MOST,
    hung_after: float = _HUNG_AFTER,
) -> Generator[tuple[int, np.ndarray | UserError], None, None]:
    """Each image's index and row (D,), float32, or the error about it, in order: `FeatureStream.run` on a cluster.

    Each image is encoded by a worker that runs this very backbone the same way, so that its feature is that of one
    machine to the last digits of fp32 (1e-6). When a worker or its machine dies, others do what it had not given back;
    each image comes once. A worker that hangs is ended, and then it is the same. An image that kills whoever opens it,
    or has each of them hang, gets an error of its own.

    Args:
        backbone: one that `load_backbone` gives by its name on every machine.
        images: read here, and sent, for workers that do not see them.
        reopen: opens the images on another machine, of a folder or bucket that all see; None for none. Workers that
            find other names or contents there get the images sent.
        cache: of this backbone's features: what is kept is not encoded, what is encoded is kept.
        batch_size: most pictures encoded at once.
        most: images in a task, at least a batch.
        hung_after: seconds after which a worker hangs that has read no image and encoded no batch meanwhile; above 0.
            Where workers were seen to take long and go on, three times as long as that.

    Raises:
        UserError: there is no cluster or no room on it, no machine can give this backbone's features, or
            workers hang one after the other whatever they are given.
    """
    if not len(images):
        return
    address = chosen_address(cluster.address)
    with connected(address) as ray, (head := Head(ray, address)).explained():
        room = find_room(ray.nodes(), cluster.device, cluster.workers)
        log.info("%d workers, each with %d CPUs and %d GPUs.", room.workers, room.cpus, room.gpus)
        orders = _orders(backbone, images, reopen, room, batch_size, cache is not None)
        job = _Encoding(ray, images, orders, room, backbone, cache)
        size = _part_size(len(images), room.workers, batch_size, most)
        starts = range(0, len(images), size)
        crew = Crew(ray, job, min(room.workers, len(starts)) or 1, Limit(hung_after, job.progress), head)
        index = 0
        for encoded in crew.run(Part(start, min(start + size, len(images))) for start in starts):
            for sentence in encoded.warnings:
                log.warning("%s", sentence)
            for found in job.take(index, encoded):
                yield index, found
                index += 1


def _part_size(images: int, workers: int, batch_size: int, most: int) -> int:
    """Images in a task: whole batches, so that images meet in them as they do without a cluster."""
    batches = images // (workers * _TASKS * batch_size)
    return batch_size * max(1, min(batches, most // batch_size))


def _orders(
    backbone: Backbone, images: ImageCollection, reopen: Reopen | None, room: Room, batch_size: int, keyed: bool
) -> Orders:
    """What workers are told; on CPUs the runtime that this process has chosen for so many images is everybody's."""
    runtime = None
    if not room.gpus:
        backbone.expect(len(images))
        runtime = backbone.runtime.name
    return Orders(
        load=partial(load_backbone, backbone.name, "cuda" if room.gpus else "cpu"),
        name=backbone.name,
        fingerprint=backbone.fingerprint,
        version=own_version(),
        runtime=runtime,
        bf16=backbone.runtime.bf16,
        threads=room.cpus or 1,
        folder=os.getcwd(),
        reopen=reopen,
        mark=mark_of(images) if reopen is not None else "",
        batch_size=batch_size,
        keyed=keyed,
    )


class _Encoding:
    """The job of a `Crew` that encodes images."""

    def __init__(
        self,
        ray: Any,
        images: ImageCollection,
        orders: Orders,
        room: Room,
        backbone: Backbone,
        cache: DiskFeatureCache | None,
    ) -> None:
        self._images, self._backbone, self._cache = images, backbone, cache
        known = cache.keys() if cache is not None and orders.reopen is not None else None
        self._greeting = ray.put(orders), ray.put(known)
        self._actor = ray.remote(
            num_cpus=room.cpus,
            num_gpus=room.gpus,
            max_restarts=0,  # the crew sees to it
            max_concurrency=AT_ONCE + 1,  # and questions how far it is
            scheduling_strategy="SPREAD",
        )(FeatureWorker)

    def start(self) -> tuple[Any, Any]:
        actor = self._actor.remote()
        return actor, actor.greet.remote(*self._greeting)

    def send(self, actor: Any, greeting: Greeting, task: Part) -> tuple[Any, Part, Part | None]:
        if greeting.sees:
            return actor.encode.remote(task), task, None
        sent: list[Unopened | bytes] = []
        held = 0
        for image in self._read(task.start, task.stop):
            key = self._key(image)
            sent.append(key if key and self._kept(key) is not None else image)
            held += 0 if sent[-1] is key else image.held
            if held >= _SENT_BYTES:
                break
        stop = task.start + len(sent)
        rest = Part(stop, task.stop) if stop < task.stop else None
        return actor.encode.remote(Part(task.start, stop, tuple(sent))), Part(task.start, stop), rest

    def progress(self, actor: Any, task: Part) -> Any:
        return actor.progress.remote(task.start)

    def divide(self, task: Part) -> Sequence[Part]:
        return [Part(index, index + 1) for index in range(task.start, task.stop)]

    def give_up(self, task: Part) -> Encoded:
        error = UserError(
            f"{self._images.names[task.start]}: each worker of the cluster that opened this image died or hung. Leave "
            "it out, or save it anew; if it lies on a network, check that it can be read there."
        )
        return Encoded(np.zeros((1, self._backbone.dim), np.float32), {0: error})

    def take(self, start: int, encoded: Encoded) -> Iterator[np.ndarray | UserError]:
        """The rows of images from `start` on, put into the cache or taken from there."""
        kept = set(encoded.kept)
        if self._cache is not None:
            fresh = (place for place in range(len(encoded.keys)) if place not in kept and place not in encoded.errors)
            self._cache.put({encoded.keys[place]: encoded.rows[place] for place in fresh if encoded.keys[place]})
        for place, row in enumerate(encoded.rows):
            if place in encoded.errors:
                yield encoded.errors[place]
            elif place in kept:
                found = self._kept(encoded.keys[place])
                yield self._encode_here(start + place) if found is None else found
            else:
                yield row

    def _read(self, start: int, stop: int) -> Iterator[Unopened]:
        names = tuple(self._images.names[start:stop])
        return unopened(ImageList(names, lambda index: self._images.read(start + index)))

    def _key(self, image: Unopened) -> bytes:
        wanted = self._cache is not None and isinstance(image.source, bytes)
        return hashlib.sha256(image.source).digest() if wanted else b""  # type: ignore[arg-type]

    def _kept(self, key: bytes) -> np.ndarray | None:
        return None if self._cache is None else self._cache.get(key)

    def _encode_here(self, index: int) -> np.ndarray | UserError:
        """For a feature that the cache had when it was asked for all, and has no more, as it is damaged."""
        ((_, found),) = FeatureStream(self._backbone, self._cache).run(self._read(index, index + 1))
        return found
