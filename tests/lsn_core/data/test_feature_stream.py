"""Features come in order, each once, in bounded memory, whoever is slow and whatever is wrong on the way."""

from __future__ import annotations

import io
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lsn_core.data import feature_stream
from lsn_core.data.feature_cache import DiskFeatureCache
from lsn_core.data.feature_stream import FeatureStream, Unopened, unopened
from lsn_core.errors import UserError


class Cropping:
    """A backbone whose feature is the colour of the picture's first pixel, with crops made apart."""

    fingerprint, dim, passes = "first pixel", 3, 1

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.expected: list[int] = []
        self.threads: set[str] = set()

    def expect(self, images: int) -> None:
        self.expected.append(images)

    def crop(self, image: Image.Image) -> torch.Tensor:
        self.threads.add(threading.current_thread().name)
        if image.width == 3:  # one that takes its time
            time.sleep(0.2)
        return torch.from_numpy(np.array(image)[:1, :1])

    def encode_crops(self, crops: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(crops))
        values = crops[:, 0, 0].float()
        return values / values.norm(dim=1, keepdim=True)

    def encode_images(self, images: list[Image.Image]) -> torch.Tensor:
        raise AssertionError("crops are wanted")


@pytest.fixture(autouse=True, params=[1, 2], ids=["one pass at a time", "two passes at once"])
def passes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a CPU, and as on a GPU."""
    monkeypatch.setattr(Cropping, "passes", request.param)


def encoded(number: int, width: int = 2) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, 2), (number % 250 + 1, number // 250 + 1, 77)).save(file, "PNG")
    return file.getvalue()


def feature(number: int) -> np.ndarray:
    values = np.array([number % 250 + 1, number // 250 + 1, 77], dtype=np.float32)
    return values / np.linalg.norm(values)


def test_the_order_is_that_of_the_images_whoever_is_slow() -> None:
    backbone = Cropping()
    sources = [encoded(i, width=3 if i % 40 == 0 else 2) for i in range(200)]
    found = list(FeatureStream(backbone, batch_size=16).run(unopened(sources), 200))
    assert [index for index, _ in found] == list(range(200))
    for index, row in found:
        np.testing.assert_allclose(row, feature(index), atol=1e-6)
    assert backbone.expected == [200] and max(backbone.batches) == 16 and sum(backbone.batches) == 200
    assert all(name.startswith("decoding") for name in backbone.threads)


def test_results_come_while_images_are_still_being_read() -> None:
    read = 0

    def endless() -> object:
        nonlocal read
        while True:
            yield Unopened(encoded(read), f"picture {read}")
            read += 1

    stream = FeatureStream(Cropping(), batch_size=8).run(endless())
    assert next(stream)[0] == 0 and read <= feature_stream._AHEAD + 8 * Cropping.passes
    for _ in range(500):
        index, _ = next(stream)
    assert index == 500 and read <= 500 + feature_stream._AHEAD + 8 * Cropping.passes
    stream.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("decoding", "encoding"))]


def test_few_bytes_are_held_of_large_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_stream, "_AHEAD_BYTES", 1000)
    large = encoded(1) + bytes(600)
    read = 0

    def counted() -> object:
        nonlocal read
        for i in range(20):
            read += 1
            yield Unopened(large + bytes([i]), f"picture {i}")

    stream = FeatureStream(Cropping(), batch_size=8).run(counted())
    next(stream)
    assert read <= 2
    assert len(list(stream)) == 19


def test_equal_images_are_encoded_once_and_bad_ones_have_their_own_sentence() -> None:
    backbone = Cropping()
    bad = b"no picture"
    images = [("a", encoded(1)), ("b", bad), ("c", encoded(1)), ("d", bad), ("e", encoded(2)), ("f", encoded(1))]
    found = dict(FeatureStream(backbone, batch_size=8).run(Unopened(data, name) for name, data in images))
    assert backbone.batches == [2]
    assert [isinstance(found[i], UserError) for i in range(6)] == [False, True, False, True, False, False]
    assert str(found[1]).startswith("b: ") and str(found[3]).startswith("d: ")
    assert found[0] is found[2] is found[5]


def test_paths_bytes_and_pictures_are_taken_and_what_is_missing_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(5))
    sources = [tmp_path / "a.png", encoded(5), Image.new("RGB", (2, 2), (6, 1, 77)), tmp_path / "gone.png"]
    found = [row for _, row in FeatureStream(Cropping()).run(unopened(sources))]
    for row in found[:3]:
        np.testing.assert_allclose(row, feature(5), atol=1e-6)
    assert isinstance(found[3], UserError) and "gone.png" in str(found[3])


def test_what_is_kept_is_not_decoded_again(tmp_path: Path) -> None:
    sources = [encoded(i) for i in range(50)]
    first = Cropping()
    kept = DiskFeatureCache(tmp_path, first.fingerprint, 3)
    stream = FeatureStream(first, kept, batch_size=8).run(unopened(sources))
    for _ in range(17):  # cut short in the third batch
        next(stream)
    stream.close()
    second = Cropping()
    found = list(FeatureStream(second, kept, batch_size=8).run(unopened(sources)))
    kept.close()
    assert sum(first.batches) == 24 + 8 * (Cropping.passes - 1) and sum(second.batches) == 26  # those not kept, again
    for index, row in found:
        np.testing.assert_allclose(row, feature(index), atol=1e-6)


def test_what_is_wrong_in_the_backbone_is_not_taken_for_a_bad_image() -> None:
    class Broken(Cropping):
        def crop(self, image: Image.Image) -> torch.Tensor:
            raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError):
        list(FeatureStream(Broken()).run(unopened([encoded(1)])))

    class Odd(Cropping):
        def encode_crops(self, crops: torch.Tensor) -> torch.Tensor:
            return torch.ones(len(crops), 4)

    with pytest.raises(RuntimeError, match="shape"):
        list(FeatureStream(Odd()).run(unopened([encoded(1)])))
