"""What the Detect tab says and how it answers, without a browser."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lsn_app.detect.answer import DetectRequest, ask, score_line
from lsn_app.serving.encoder import Encoder
from lsn_app.serving.lru import LRU
from lsn_app.serving.photos import Photo, read_photo
from lsn_app.serving.requests import ZERO_SHOT, DetectorRequest, Problem, parse_classes
from lsn_app.serving.store import Store
from lsn_app.shared.examples import credits_list, load_examples
from lsn_core import Backbone, Detector, UserError
from lsn_core.scores.registry import BASELINE


def question(
    photo: Photo, classes: str, label: str = ZERO_SHOT, tpr: float = 0.95, calibration: tuple[Photo, ...] = ()
) -> DetectRequest:
    return DetectRequest(photo, DetectorRequest(classes, label, calibration=calibration), tpr)


@pytest.fixture
def store(tiny_backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr("lsn_app.serving.store.load_backbone", lambda name: tiny_backbone)
    return Store("embedded", detectors_dir=tmp_path)


@pytest.mark.parametrize("text", ["dog, cat", "dog\ncat", "dog;cat,", " dog ,\n\n cat \n", "dog,, cat"])
def test_class_lists_are_read_however_they_are_separated(text: str) -> None:
    assert parse_classes(text) == ("dog", "cat")


@pytest.mark.parametrize("text", ["", None, ";", "dog, Dog", "a," * 2000, ",".join(map(str, range(1001)))])
def test_unusable_class_lists_are_refused_with_a_sentence(text: str | None) -> None:
    with pytest.raises(UserError, match=r"\.$"):
        parse_classes(text)


def test_every_example_has_an_author_a_licence_link_and_its_original_page() -> None:
    examples = load_examples()
    assert len(examples) == 16
    html = credits_list(examples)
    for example in examples:
        assert example.author and example.author in example.credit()
        assert example.licence_url.startswith("https://creativecommons.org/") and example.licence_url in html
        assert example.original_page.startswith("http") and example.original_page in html


def test_answers_equal_the_library(store: Store, tiny_backbone: Backbone, examples: Path) -> None:
    names = ["dog", "cat", "elephant"]
    line = score_line(store, str(examples / "dog.jpg"), "dog.jpg", ", ".join(names), 0.95)
    (expected,) = Detector.zero_shot(tiny_backbone, names).predict([examples / "dog.jpg"])
    assert line["verdict"] == expected.verdict and line["predicted_class"] == expected.predicted_class
    assert line["score"] == pytest.approx(expected.score, abs=1e-6)
    assert line["threshold"] == pytest.approx(expected.threshold, abs=1e-6)
    assert line["positive"] == pytest.approx(expected.positive, abs=1e-5)


def test_a_photo_and_a_text_are_encoded_once(
    store: Store, tiny_backbone: Backbone, examples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, int]] = []
    images, texts = tiny_backbone.encode_pixels, tiny_backbone.encode_texts
    monkeypatch.setattr(tiny_backbone, "encode_pixels", lambda x: calls.append(("image", len(x))) or images(x))
    monkeypatch.setattr(tiny_backbone, "encode_texts", lambda x: calls.append(("text", len(x))) or texts(x))
    photo = read_photo(str(examples / "dog.jpg"), "dog.jpg")
    ask(store, question(photo, "dog, cat"))
    ask(store, question(photo, "dog, cat", tpr=0.9))
    ask(store, question(photo, "cat, zebra"))
    assert [count for kind, count in calls if kind == "image"] == [1]
    assert [count for kind, count in calls if kind == "text"] == [2, 2, 1, 1]  # positive, negative; then zebra's alone


def test_calibration_photos_set_the_threshold_at_the_wanted_rate(store: Store, examples: Path) -> None:
    photos = tuple(read_photo(str(path), path.name) for path in sorted(examples.glob("*.jpg")))
    low, high = (
        ask(store, question(photos[0], "dog, cat", tpr=tpr, calibration=photos)).prediction for tpr in (0.80, 0.93)
    )
    assert low.calibrated and low.p_value is not None
    assert low.threshold is not None and high.threshold is not None and low.threshold > high.threshold


def test_another_rate_changes_the_verdict_alone_and_neither_reads_nor_encodes(
    store: Store, tiny_backbone: Backbone, examples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in examples.glob("*.jpg"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    photos = tuple(read_photo(str(path), path.name) for path in sorted(tmp_path.glob("*.jpg")))
    rates = (0.3, 0.9, 0.99)  # for the last, the photos are too few
    answers = {rate: ask(store, question(photos[3], "dog, cat", tpr=rate, calibration=photos)) for rate in rates}
    for path in tmp_path.glob("*.jpg"):
        path.unlink()
    monkeypatch.setattr(tiny_backbone, "encode_images", None)
    monkeypatch.setattr(tiny_backbone, "encode_texts", None)
    assert [answers[rate].prediction.calibrated for rate in rates] == [True, True, False]
    for rate, other in itertools.permutations(rates, 2):
        moved, asked = answers[other].at(rate), answers[rate].prediction
        assert replace(moved.prediction, evidence=asked.evidence) == asked and moved.tpr == rate
        assert moved.prediction.evidence == pytest.approx(asked.evidence, abs=1e-6)
    assert answers[0.3].prediction.threshold != answers[0.9].prediction.threshold


def test_mistakes_are_told_by_the_input_they_belong_to(store: Store, examples: Path, tmp_path: Path) -> None:
    (tmp_path / "note.jpg").write_text("this is no picture")
    dog, note = (read_photo(str(path), path.name) for path in (examples / "dog.jpg", tmp_path / "note.jpg"))
    cases = {
        "classes": question(dog, "dog, Dog"),
        "photo": question(note, "dog, cat"),
        "model": question(dog, "dog, cat", label="no such detector"),
        "calibration": question(dog, "dog, cat", calibration=(note,)),
    }
    for place, request in cases.items():
        with pytest.raises(Problem) as caught:
            ask(store, request)
        assert caught.value.place == place


def test_a_score_line_holds_the_error_and_not_the_path(store: Store, tmp_path: Path) -> None:
    (tmp_path / "note.jpg").write_text("this is no picture")
    line = score_line(store, str(tmp_path / "note.jpg"), "note.jpg", "dog, cat", 0.95)
    assert line["file"] == "note.jpg" and line["verdict"] is None
    assert line["error"] and str(tmp_path) not in line["error"]
    assert score_line(store, str(tmp_path / "gone.jpg"), "gone.jpg", "dog, cat", 0.95)["error"]
    assert "between 0 and 1" in score_line(store, str(tmp_path / "note.jpg"), "note.jpg", "dog, cat", 1.5)["error"]


@pytest.mark.parametrize("name", ["local-dir:/etc", "hf-hub:someone/something", "ViT-B-16:/tmp/x.safetensors"])
def test_strangers_cannot_name_paths_or_repositories(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="runs only these backbones"):
        Store("embedded", public=True, detectors_dir=tmp_path).encoder(name)


def test_a_shipped_detector_brings_its_own_classes_and_calibration(
    store: Store, tiny_backbone: Backbone, examples: Path, tmp_path: Path
) -> None:
    photos = [read_photo(str(path), path.name) for path in sorted(examples.glob("*.jpg"))]
    encoder = Encoder(tiny_backbone, LRU(100), LRU(100))
    features = torch.cat([encoder.encode_photo(photo) for photo in photos])
    detector = Detector.zero_shot(tiny_backbone, ["zebra", "turtle"]).calibrate(features.repeat(2, 1))
    detector.save(tmp_path / "animals.safetensors")
    shelf = Store("embedded", detectors_dir=tmp_path)
    answer = ask(shelf, question(photos[0], "of no meaning here", label="animals"))
    assert set(answer.prediction.positive) == {"zebra", "turtle"}
    assert answer.prediction.calibrated


def test_own_photos_take_the_place_of_a_detectors_calibration_and_few_promise_nothing(
    store: Store, tiny_backbone: Backbone, examples: Path, tmp_path: Path
) -> None:
    photos = tuple(read_photo(str(path), path.name) for path in sorted(examples.glob("*.jpg")))
    features = torch.cat([store.encoder("embedded").encode_photo(photo) for photo in photos])
    detector = Detector.zero_shot(tiny_backbone, ["zebra", "turtle"]).calibrate(features.repeat(3, 1))
    detector.save(tmp_path / "animals.safetensors")
    shelf = Store("embedded", detectors_dir=tmp_path)
    own, few = (question(photos[0], "", "animals", tpr=0.9, calibration=photos[:count]) for count in (16, 5))
    for request, expected in ((own, detector.calibrate(features)), (few, None)):
        prediction = ask(shelf, request).prediction
        assert prediction.calibrated == (expected is not None)
        if expected is not None:
            assert prediction.threshold == pytest.approx(expected.threshold(0.9), abs=1e-6)
        assert prediction.threshold is not None and np.isfinite(prediction.threshold)
        distance = prediction.score - prediction.threshold  # type: ignore[operator]
        assert sum(prediction.evidence.values()) == pytest.approx(distance, abs=1e-5)


def test_a_calibration_belongs_to_its_classes_detector_and_backbone() -> None:
    asked = DetectorRequest("dog, cat", backbone="embedded")
    assert asked.identity == DetectorRequest(" dog;cat", backbone="embedded").identity
    others = (DetectorRequest("dog, cow", backbone="embedded"), DetectorRequest("dog, cat", backbone="ViT-B-16:openai"))
    assert asked.identity not in {other.identity for other in (*others, DetectorRequest("dog, cat", "imagenette"))}
    assert DetectorRequest("a", "imagenette").identity == DetectorRequest("b", "imagenette", "x").identity


def test_hand_written_mcm_stands_beside_every_detector(store: Store, tiny_backbone: Backbone, examples: Path) -> None:
    photo = read_photo(str(examples / "dog.jpg"), "dog.jpg")
    answer = ask(store, question(photo, "dog, cat, zebra"))
    (expected,) = Detector.zero_shot(tiny_backbone, ["dog", "cat", "zebra"], score_name=BASELINE).predict([photo.path])
    assert answer.baseline is not None and answer.baseline.verdict == expected.verdict
    assert answer.baseline.score == pytest.approx(expected.score, abs=1e-6)
    assert ask(store, question(photo, "dog")).baseline is None  # it compares classes
