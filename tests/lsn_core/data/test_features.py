"""Tests that features are right, that the cache is only ever a saving, and that bad images are named."""

import io
import logging
import sqlite3
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lsn_core.data.feature_cache import CACHE_FILE
from lsn_core.data.feature_stream import picture_batches
from lsn_core.data.features import FeatureSet, extract_features
from lsn_core.data.images import ImageError
from lsn_core.data.labelled import load_data
from lsn_core.errors import UserError


class MeanColour:
    """A backbone whose feature is the picture's normalised mean colour; black has none."""

    dim = 3

    def __init__(self, fingerprint: str = "mean-colour") -> None:
        self.fingerprint = fingerprint
        self.batches: list[int] = []

    def encode_images(self, images: list[Image.Image]) -> torch.Tensor:
        self.batches.append(len(images))
        means = torch.tensor(np.array([np.asarray(image).reshape(-1, 3).mean(axis=0) for image in images]))
        return (means / means.norm(dim=1, keepdim=True)).float()


class Collection:
    def __init__(self, items: list[bytes]) -> None:
        self.items, self.names = items, [f"picture {i}" for i in range(len(items))]

    def __len__(self) -> int:
        return len(self.items)

    def read(self, index: int) -> bytes:
        return self.items[index]


def picture(*colour: int, size: tuple[int, int] = (4, 4)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return file.getvalue()


COLOURS = [(10 * i + 10, 200, 250 - 20 * i) for i in range(10)]
PICTURES = [picture(*colour) for colour in COLOURS]
EXPECTED = np.array(COLOURS) / np.linalg.norm(COLOURS, axis=1, keepdims=True)


def extract(backbone: MeanColour, items: list[bytes], cache_dir: Path | None, **options: object) -> FeatureSet:
    return extract_features(backbone, Collection(items), cache=cache_dir, progress=False, **options)


def check(found: FeatureSet, expected: np.ndarray = EXPECTED) -> None:
    assert found.features.dtype == torch.float32
    np.testing.assert_allclose(found.features.numpy(), expected, atol=1e-6)
    assert found.kept.tolist() == list(range(len(expected))) and found.errors == []


@pytest.mark.parametrize("cached", [False, True])
def test_features_are_right_and_in_order_whatever_the_batch(cached: bool, tmp_path: Path) -> None:
    for size, batches in [(1, [1] * 10), (4, [4, 4, 2]), (64, [10])]:
        backbone = MeanColour()
        check(extract(backbone, PICTURES, tmp_path / str(size) if cached else None, batch_size=size))
        assert backbone.batches == batches


def test_only_what_is_new_is_encoded(tmp_path: Path) -> None:
    backbone = MeanColour()
    first = extract(backbone, PICTURES[:6], tmp_path)
    shuffled = [9, 0, 7, 5, 8, 1, 6]
    check(extract(backbone, [PICTURES[i] for i in shuffled], tmp_path), EXPECTED[shuffled])
    assert backbone.batches == [6, 4]
    again = extract(backbone, PICTURES[:6], tmp_path)
    assert backbone.batches == [6, 4] and torch.equal(first.features, again.features)


def test_equal_images_are_encoded_once() -> None:
    backbone = MeanColour()
    check(extract(backbone, [PICTURES[0], PICTURES[1], PICTURES[0]], None), EXPECTED[[0, 1, 0]])
    assert backbone.batches == [2]


def test_edited_images_and_other_backbones_meet_no_stale_entry(tmp_path: Path) -> None:
    folder = tmp_path / "set" / "cat"
    folder.mkdir(parents=True)
    backbone, other = MeanColour("weights A"), MeanColour("weights B")
    for colour in COLOURS[:2]:
        (folder / "1.png").write_bytes(picture(*colour))
        found = extract_features(backbone, load_data(tmp_path / "set"), cache=tmp_path, progress=False)
        np.testing.assert_allclose(found.features[0].numpy(), np.array(colour) / np.linalg.norm(colour), atol=1e-6)
    extract(other, [PICTURES[0]], tmp_path)
    assert (backbone.batches, other.batches) == ([1, 1], [1])


def test_bad_images_are_named_or_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    items = [PICTURES[0], b"not an image", PICTURES[1], picture(0, 0, 0), b""]
    backbone = MeanColour()
    for stop, error, reason in [(2, ImageError, "^picture 1: .*not an image"), (4, UserError, "^picture 3: .*NaN")]:
        chosen = [item for item in items[:stop] if stop == 2 or item != items[1]]
        collection = Collection(chosen)
        collection.names = [f"picture {items.index(item)}" for item in chosen]
        with pytest.raises(error, match=reason):
            extract_features(backbone, collection, cache=tmp_path, progress=False)
    found = extract(backbone, items, tmp_path, on_error="skip")
    np.testing.assert_allclose(found.features.numpy(), EXPECTED[:2], atol=1e-6)
    assert found.kept.tolist() == [0, 2] and found.left_out.tolist() == [1, 3, 4]
    assert [name for name, _ in found.errors] == ["picture 1", "picture 3", "picture 4"]
    assert [message.split(":")[0] for _, message in found.errors] == ["picture 1", "picture 3", "picture 4"]
    assert "picture 4" in caplog.text
    nothing = extract(backbone, [b""], tmp_path, on_error="skip")
    assert nothing.features.shape == (0, 3) and len(nothing.kept) == 0


@pytest.mark.parametrize("damage", ["text", "truncated", "flipped", "directory", "other table"])
def test_a_damaged_cache_costs_time_only(damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    backbone, path = MeanColour(), tmp_path / CACHE_FILE
    extract(backbone, PICTURES, tmp_path)
    raw = bytearray(path.read_bytes())
    if damage == "text":
        path.write_text("this is not a database, " * 99)
    elif damage == "truncated":
        path.write_bytes(raw[:5000])
    elif damage == "flipped":
        feature = EXPECTED[3].astype("<f4").tobytes()
        place = raw.index(feature[:11])
        raw[place + 2] ^= 0x40
        path.write_bytes(raw)
    else:
        path.unlink()
        if damage == "directory":
            path.mkdir()
        else:
            with sqlite3.connect(path) as connection:
                connection.execute("CREATE TABLE features (a, b)")
    check(extract(backbone, PICTURES, tmp_path))
    assert sum(backbone.batches) == (11 if damage == "flipped" else 20)
    assert CACHE_FILE in caplog.text
    if damage in ("text", "truncated", "flipped"):  # and it has healed
        before = sum(backbone.batches)
        check(extract(backbone, PICTURES, tmp_path))
        assert sum(backbone.batches) == before


def test_random_damage_never_gives_a_wrong_feature(tmp_path: Path) -> None:
    extract(MeanColour(), PICTURES, tmp_path)
    valid, rng = (tmp_path / CACHE_FILE).read_bytes(), np.random.default_rng(2)
    for trial in range(100):
        raw = bytearray(valid)
        for place in rng.integers(0, len(raw) if trial % 2 else 200, 20):
            raw[place] = rng.integers(0, 256)
        (tmp_path / CACHE_FILE).write_bytes(raw)
        check(extract(MeanColour(), PICTURES, tmp_path))


def test_a_cache_folder_that_cannot_be_made(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    check(extract(MeanColour(), PICTURES, tmp_path / "file" / "cache"))
    assert "going on without it" in caplog.text


def test_a_locked_cache_is_waited_for_and_then_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract(MeanColour(), PICTURES[:3], tmp_path)
    monkeypatch.setattr("lsn_core.data.feature_cache._BUSY_SECONDS", 0.1)
    with sqlite3.connect(tmp_path / CACHE_FILE) as blocker:
        blocker.execute("BEGIN EXCLUSIVE")
        check(extract(MeanColour(), PICTURES, tmp_path))
    assert "locked" in caplog.text and not list(tmp_path.glob("*damaged*"))


def test_a_killed_run_keeps_its_finished_batches(tmp_path: Path) -> None:
    script = (
        "import os, sys\nsys.path.insert(0, sys.argv[1])\nfrom pathlib import Path\nimport test_features as t\n"
        "class Dying(t.MeanColour):\n"
        "    def encode_images(self, images):\n"
        "        if len(self.batches) == 2: os.kill(os.getpid(), 9)\n"
        "        return super().encode_images(images)\n"
        "t.extract(Dying(), t.PICTURES, Path(sys.argv[2]), batch_size=3)\n"
    )
    here = Path(__file__).parent
    done = subprocess.run([sys.executable, "-c", script, str(here), str(tmp_path)], cwd=here.parents[2], timeout=120)
    assert done.returncode == -9
    backbone = MeanColour()
    check(extract(backbone, PICTURES, tmp_path))
    assert backbone.batches == [4]


def test_several_writers_share_one_cache(tmp_path: Path) -> None:
    found: dict[int, FeatureSet] = {}

    def work(number: int) -> None:
        order = np.random.default_rng(number).permutation(10)
        found[number] = extract(MeanColour(), [PICTURES[i] for i in order], tmp_path, batch_size=1)
        np.testing.assert_allclose(found[number].features.numpy(), EXPECTED[order], atol=1e-6)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    backbone = MeanColour()
    check(extract(backbone, PICTURES, tmp_path))
    assert len(found) == 4 and backbone.batches == []


def test_progress_is_reported(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    items = [PICTURES[0], b"bad", PICTURES[1], PICTURES[0]]
    calls: list[tuple[int, int]] = []
    for _ in range(2):
        calls.clear()
        extract_features(
            MeanColour(),
            Collection(items),
            cache=tmp_path,
            progress=lambda done, total: calls.append((done, total)),
            on_error="skip",
        )
        assert calls == sorted(calls) and calls[-1] == (4, 4)
    assert capfd.readouterr() == ("", "")
    extract_features(MeanColour(), Collection(PICTURES), cache=None)
    assert "10 of 10 images" in capfd.readouterr().err


def test_vast_pictures_are_not_all_held_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lsn_core.data.feature_stream._BATCH_PIXELS", 20_000)
    seen: list[weakref.ref[Image.Image]] = []
    most_alive = 0

    class Counting(MeanColour):
        def encode_images(self, images: list[Image.Image]) -> torch.Tensor:
            nonlocal most_alive
            seen.extend(map(weakref.ref, images))
            most_alive = max(most_alive, sum(one() is not None for one in seen))
            return super().encode_images(images)

    backbone = Counting()
    extract(backbone, [picture(i + 1, 9, 9, size=(100, 100)) for i in range(5)], None)
    assert backbone.batches == [2, 2, 1] and most_alive == 2


def test_batches_end_by_number_or_by_pixels_and_keep_the_order() -> None:
    small, large = Image.new("RGB", (10, 10)), Image.new("RGB", (4000, 4000))
    pictures = [small, small, small, large, small, large, large, small]
    batches = list(picture_batches(enumerate(pictures), 3))
    assert [[key for key, _ in batch] for batch in batches] == [[0, 1, 2], [3], [4, 5], [6], [7]]
    assert all(picture is pictures[key] for batch in batches for key, picture in batch)
    thin = [Image.new("L", (1, 3_000_000))] * 4  # their rows take more than their pixels
    assert [len(batch) for batch in picture_batches(enumerate(thin), 9)] == [2, 2]
    assert list(picture_batches([], 3)) == []


def test_arguments_out_of_range(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for options in ({"batch_size": 0}, {"on_error": "ignore"}):
        with pytest.raises(UserError):
            extract(MeanColour(), PICTURES, None, **options)
