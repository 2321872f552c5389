"""Photos that wait for the image encoder together are encoded together, and each gets what it would get alone."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from support import until
from torch import Tensor

from lsn_app.serving.encoder import Encoder
from lsn_app.serving.joined import MOST, JoinedPasses
from lsn_app.serving.lru import LRU
from lsn_app.serving.photos import Photo, read_photo
from lsn_core import Backbone
from lsn_core.data.images import open_image
from lsn_core.errors import ImageError, UserError


class Gate:
    """An encoder of one number, whose first pass waits until it is let go."""

    def __init__(self) -> None:
        self.passes: list[int] = []
        self.go = threading.Event()

    def __call__(self, pixels: Tensor) -> Tensor:
        self.passes.append(len(pixels))
        self.go.wait(20)
        if (pixels < 0).any():
            raise RuntimeError("out of memory")
        return pixels.mean(dim=(1, 2, 3))[:, None] * 2


def pictures(*values: float) -> list[Tensor]:
    return [torch.full((3, 2, 2), value) for value in values]


@pytest.mark.parametrize("count", [5, MOST + 9])
def test_those_that_wait_together_go_together_and_get_their_own(count: int) -> None:
    gate = Gate()
    joined = JoinedPasses(gate, threading.Lock())
    with ThreadPoolExecutor(count + 1) as pool:
        first = pool.submit(joined, pictures(100.0)[0])
        until(lambda: gate.passes)
        others = [pool.submit(joined, one) for one in pictures(*map(float, range(count)))]
        until(lambda: len(joined._line) == count)
        gate.go.set()
        assert first.result().tolist() == [200.0]
        assert [one.result().item() for one in others] == [2.0 * value for value in range(count)]
    assert gate.passes == ([1, 5] if count == 5 else [1, MOST, 9])


def test_one_alone_waits_for_nobody() -> None:
    gate = Gate()
    gate.go.set()
    joined = JoinedPasses(gate, threading.Lock())
    assert [joined(one).item() for one in pictures(1.0, 2.0)] == [2.0, 4.0] and gate.passes == [1, 1]


def test_an_error_reaches_those_of_its_pass_and_the_next_goes_on() -> None:
    gate = Gate()
    joined = JoinedPasses(gate, threading.Lock())
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(joined, pictures(1.0)[0])
        until(lambda: gate.passes)
        others = [pool.submit(joined, one) for one in pictures(-1.0, 2.0)]
        until(lambda: len(joined._line) == 2)
        gate.go.set()
        assert first.result().item() == 2.0
        for one in others:
            with pytest.raises(RuntimeError, match="memory"):
                one.result()
    assert joined(pictures(3.0)[0]).item() == 6.0


@pytest.fixture
def encoder(tiny_backbone: Backbone) -> Encoder:
    return Encoder(tiny_backbone, LRU(99), LRU(99))


def test_answers_to_many_are_those_to_one(encoder: Encoder, tiny_backbone: Backbone, examples: Path) -> None:
    paths = sorted(examples.glob("*.jpg"))
    photos = [read_photo(str(path), path.name) for path in paths]
    with ThreadPoolExecutor(8) as pool:
        found = torch.cat(list(pool.map(encoder.encode_photo, photos)))
    alone = torch.cat([tiny_backbone.encode_images([open_image(path)]) for path in paths])
    torch.testing.assert_close(found, alone, atol=1e-6, rtol=0)
    encoder._joined = None  # type: ignore[assignment]
    assert torch.equal(encoder.encode_photo(photos[3]), found[3:4])  # from what is kept


def test_a_photo_that_cannot_be_used_is_refused_by_name(
    encoder: Encoder, examples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x").write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"^mine\.png: "):
        encoder.encode_photo(Photo(str(tmp_path / "x"), "mine.png", "00" * 32))
    good = read_photo(str(examples / "dog.jpg"), "dog.jpg")
    monkeypatch.setattr(encoder.backbone, "encode_pixels", lambda pixels: torch.full((len(pixels), 64), torch.nan))
    with pytest.raises(UserError, match=r"^dog\.jpg: .*NaN"):
        encoder.encode_photo(good)
    monkeypatch.undo()
    assert encoder.encode_photo(good).norm() == pytest.approx(1, abs=1e-5)
