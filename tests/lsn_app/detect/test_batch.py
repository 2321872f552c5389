"""Many photos at once, without a browser: which files count, what is answered, and what is encoded for it."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from lsn_app.detect.batch import COLUMNS, BatchAnswer, csv_link, predict_batch, rows, summary, write_unknown
from lsn_app.serving.encoder import Encoder
from lsn_app.serving.lru import LRU
from lsn_app.serving.requests import Problem
from lsn_app.shared.photo_input import file_in_folder
from lsn_app.shared.uploads import MAX_PHOTOS, Batch, open_batch
from lsn_core import Backbone, Detector
from lsn_core.data.collection import ImageList


@pytest.fixture
def encoder(tiny_backbone: Backbone) -> Encoder:
    return Encoder(tiny_backbone, LRU(100), LRU(100))


@pytest.fixture
def calls(tiny_backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures went through the image tower each time."""
    found: list[int] = []
    encode = tiny_backbone.encode_crops
    monkeypatch.setattr(tiny_backbone, "encode_crops", lambda crops: found.append(len(crops)) or encode(crops))
    return found


def files(examples: Path, *names: str) -> list[tuple[str, str]]:
    return [(str(examples / f"{name}.jpg"), f"{name}.jpg") for name in names]


def zipped(path: Path, entries: dict[str, bytes], **options: int) -> tuple[str, str]:
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return str(path), path.name


def mixed(examples: Path, tmp_path: Path) -> list[tuple[str, str]]:
    (tmp_path / "note.jpg").write_text("no picture")
    return [*files(examples, "dog", "cat"), (str(tmp_path / "note.jpg"), "note.jpg"), *files(examples, "zebra")]


def test_verdicts_stand_in_order_and_equal_the_library(
    encoder: Encoder, tiny_backbone: Backbone, examples: Path, tmp_path: Path
) -> None:
    given = mixed(examples, tmp_path)
    batch, detector = open_batch(given), Detector.zero_shot(tiny_backbone, ["dog", "cat"])
    found = predict_batch(batch, detector, batch.encode(encoder), 0.95).predictions
    expected = detector.predict([path for path, _ in given])
    assert [one.verdict for one in found] == [one.verdict for one in expected]
    assert found[2].error and found[2].error.startswith("note.jpg: this is not an image") and expected[2].error
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.predicted_class == theirs.predicted_class
        assert ours.score == (None if theirs.score is None else pytest.approx(theirs.score, abs=1e-6))
    assert rows(found)[2] == [None, found[2].error] and rows(found)[0][0] == found[0].verdict


def test_photos_go_through_the_tower_in_batches_and_once(
    encoder: Encoder, examples: Path, tmp_path: Path, calls: list[int]
) -> None:
    batch = open_batch([*mixed(examples, tmp_path), *files(examples, "dog")])
    done: list[tuple[int, int]] = []
    first = batch.encode(encoder, lambda count, total: done.append((count, total)))
    assert (
        calls == [3] and done[-1] == (5, 5) and len(batch.images) == 5
    )  # the dog is there twice, the note is no picture
    assert set(first) == {0, 1, 3, 4} and first[0].equal(first[4])
    again = batch.encode(encoder)
    assert calls == [3] and all(again[place].equal(first[place]) for place in first)


def test_large_batches_are_cut(tiny_backbone: Backbone, calls: list[int]) -> None:
    def read(shade: int) -> bytes:
        file = io.BytesIO()
        Image.new("L", (8, 8), shade).save(file, "PNG")
        return file.getvalue()

    images = ImageList(tuple(f"{shade}.png" for shade in range(70)), read)
    encoded = Encoder(tiny_backbone, LRU(100), LRU(100)).encode_all(images)
    assert calls == [32, 32, 6] and len(encoded.kept) == 70 and not encoded.errors


def test_thumbnails_are_small_and_those_of_known_photos_are_made_too(
    encoder: Encoder, examples: Path, tmp_path: Path
) -> None:
    for _ in range(2):  # the second time, features come from the cache
        batch = open_batch(mixed(examples, tmp_path))
        batch.encode(encoder)
        batch.finish_thumbnails()
        assert set(batch.thumbnails) == {0, 1, 3}
        for link in batch.thumbnails.values():
            data = base64.b64decode(link.removeprefix("data:image/jpeg;base64,"))
            assert max(Image.open(io.BytesIO(data)).size) <= 160 and len(data) < 12_000


def test_a_zip_of_any_layout_is_read_and_other_files_are_named(examples: Path, tmp_path: Path) -> None:
    dog = (examples / "dog.jpg").read_bytes()
    entries = {
        "a/b/1.jpg": dog,
        "2.JPEG": dog,
        "photo.heic": b"x",
        "readme.txt": b"x",
        "__MACOSX/1.jpg": b"x",
        ".hidden.jpg": b"x",
    }
    batch = open_batch([zipped(tmp_path / "set.zip", entries), *files(examples, "cat")])
    assert batch.images.names == ("a/b/1.jpg", "2.JPEG", "photo.heic", "cat.jpg")
    assert batch.images.read(0) == dog and batch.left_out == ["readme.txt"]


def test_harmful_and_useless_files_are_refused_without_paths(examples: Path, tmp_path: Path) -> None:
    dog = (examples / "dog.jpg").read_bytes()
    outside = zipped(tmp_path / "outside.zip", {"../evil.jpg": dog})
    bomb = zipped(
        tmp_path / "bomb.zip", {"1.jpg": bytes(20 * 2**20)}, compression=zipfile.ZIP_DEFLATED, compresslevel=9
    )
    (tmp_path / "broken.zip").write_bytes(b"PK no zip")
    cases = {
        "points outside": [outside],
        "times its size": [bomb],
        "broken.zip": [(str(tmp_path / "broken.zip"), "broken.zip")],
        "no pictures": [zipped(tmp_path / "text.zip", {"readme.txt": b"x"})],
        "at most 1,000": files(examples, "dog") * (MAX_PHOTOS + 1),
    }
    for words, given in cases.items():
        with pytest.raises(Problem, match=words) as caught:
            open_batch(given)
        assert caught.value.place == "batch" and str(tmp_path) not in str(caught.value)


def test_the_csv_has_the_columns_of_the_command_line(
    encoder: Encoder, tiny_backbone: Backbone, examples: Path, tmp_path: Path
) -> None:
    batch, detector = open_batch(mixed(examples, tmp_path)), Detector.zero_shot(tiny_backbone, ["dog", "cat"])
    batch.images = replace(batch.images, names=("=1+1.jpg", *batch.images.names[1:]))
    answer = predict_batch(batch, detector, batch.encode(encoder), 0.95)
    predictions = answer.predictions
    assert set(COLUMNS) == {"file", *predictions[0].as_dict()}
    link = re.search('base64,([^"]+)', csv_link(answer))
    lines = list(csv.DictReader(io.StringIO(base64.b64decode(link[1]).decode("utf-8-sig"))))  # type: ignore[index]
    assert [line["file"] for line in lines] == ["'=1+1.jpg", "cat.jpg", "note.jpg", "zebra.jpg"]
    assert json.loads(lines[1]["positive"]) == pytest.approx(predictions[1].positive)
    assert float(lines[1]["score"]) == predictions[1].score and lines[2]["score"] == "" and lines[2]["error"]


def test_the_summary_counts_and_says_how_far_to_trust(
    encoder: Encoder, tiny_backbone: Backbone, examples: Path, tmp_path: Path
) -> None:
    batch = open_batch(mixed(examples, tmp_path))
    batch.left_out.append("<b>.txt")
    features = batch.encode(encoder)
    detector = Detector.zero_shot(tiny_backbone, ["dog", "cat"])
    for asked, words in (
        (detector, "a rule of thumb without a known error rate"),
        (detector.calibrate(features[0]), "1 calibration photo is too few"),
        (detector.calibrate(features[0].repeat(30, 1)), "keeps at least 95 % of known photos, by 30 of them"),
    ):
        answer = predict_batch(batch, asked, features, 0.95)
        text = summary(answer)
        known = sum(one.verdict == "ID" for one in answer.predictions)
        assert f"{known} of 4 photos judged as known" in text and "1 could not be read" in text and words in text
        assert "&lt;b&gt;.txt" in text and "<b>.txt" not in text


def test_nothing_readable_is_still_a_batch(encoder: Encoder, tiny_backbone: Backbone, tmp_path: Path) -> None:
    (tmp_path / "note.jpg").write_text("no picture")
    batch: Batch = open_batch([(str(tmp_path / "note.jpg"), "note.jpg"), (str(tmp_path / "gone.jpg"), "gone.jpg")])
    answer = predict_batch(batch, Detector.zero_shot(tiny_backbone, ["dog", "cat"]), batch.encode(encoder), 0.95)
    assert all(one.error for one in answer.predictions)


def test_another_rate_gives_the_verdicts_that_asking_again_would(
    encoder: Encoder, tiny_backbone: Backbone, examples: Path, tmp_path: Path
) -> None:
    batch = open_batch([*mixed(examples, tmp_path), *files(examples, "church", "guitar", "turtle")])
    features = batch.encode(encoder)
    detector = Detector.zero_shot(tiny_backbone, ["dog", "cat"])
    detector = detector.calibrate(torch.cat(list(features.values())))
    low, high = (predict_batch(batch, detector, features, rate) for rate in (0.4, 0.8))
    for moved, asked in ((low.at(0.8), high), (high.at(0.4), low)):
        for one, other in zip(moved.predictions, asked.predictions, strict=True):
            assert replace(one, evidence=other.evidence) == other
            assert one.evidence == pytest.approx(other.evidence, abs=1e-6)
    assert [one.verdict for one in low.predictions] != [one.verdict for one in high.predictions]
    kept: BatchAnswer = low.without_reasons()
    assert rows(kept.predictions) == rows(low.predictions) and not any(one.positive for one in kept.predictions)


def test_the_unknown_photos_are_packed_under_their_names(
    encoder: Encoder, tiny_backbone: Backbone, examples: Path, tmp_path: Path
) -> None:
    given = [*files(examples, "dog", "cat", "zebra"), *files(examples, "dog")]
    batch = open_batch(given)
    detector = Detector.zero_shot(tiny_backbone, ["dog", "cat"])
    answer = predict_batch(batch, detector, batch.encode(encoder), 0.95)
    answer = replace(answer, predictions=[replace(one, verdict="OOD") for one in answer.predictions])
    answer.predictions[1] = replace(answer.predictions[1], verdict="ID")
    assert write_unknown(answer, tmp_path / "unknown.zip") == 3
    with zipfile.ZipFile(tmp_path / "unknown.zip") as archive:
        assert archive.namelist() == ["dog.jpg", "zebra.jpg", "dog (2).jpg"]
        assert archive.read("zebra.jpg") == (examples / "zebra.jpg").read_bytes()


def test_photos_keep_their_folders_and_no_two_have_one_name(examples: Path, tmp_path: Path) -> None:
    path = str(examples / "dog.jpg")
    given = ["trip/day 1/a.JPG", "trip/day 2/a.JPG", "a.JPG", "a.JPG", "a (2).JPG", "a.JPG", "trip/.hidden/a.JPG"]
    batch = open_batch([file_in_folder({"path": path, "orig_name": name}) for name in given])
    expected = ("trip/day 1/a.JPG", "trip/day 2/a.JPG", "a.JPG", "a (3).JPG", "a (2).JPG", "a (4).JPG")
    assert batch.images.names == expected and batch.left_out == []


@pytest.mark.parametrize(
    ("told", "kept"),
    [("../../etc/x.jpg", "etc/x.jpg"), ("/a/./b.jpg", "a/b.jpg"), ("C:\\..\\b.jpg", "C:/b.jpg"), ("..", "dog.jpg")],
)
def test_a_file_name_leads_nowhere_else(told: str, kept: str) -> None:
    assert file_in_folder({"path": "/srv/dog.jpg", "orig_name": told}) == ("/srv/dog.jpg", kept)


def test_a_stopped_batch_keeps_what_it_has_reached(
    encoder: Encoder, tiny_backbone: Backbone, examples: Path, tmp_path: Path
) -> None:
    (tmp_path / "note.jpg").write_text("no picture")
    given = [*files(examples, "dog", "cat") * 20, (str(tmp_path / "note.jpg"), "note.jpg")]
    batch, done = open_batch(given), list[int]()
    features = batch.encode(encoder, lambda count, _: done.append(count), stop=lambda: bool(done))
    assert done == [32] and list(features) == list(range(32)) and len(batch.images) == 32 and not batch.errors
    answer = predict_batch(batch, Detector.zero_shot(tiny_backbone, ["dog", "cat"]), features, 0.95)
    assert "Stopped: 9 of the 41 photos were not asked." in summary(answer)
    assert len(batch.encode(encoder)) == 32
