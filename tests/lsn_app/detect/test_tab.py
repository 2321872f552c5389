"""What the Detect tab says and how it answers, without a browser."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lsn_app.detect.answer import DetectRequest, ask, score_line
from lsn_app.detect.words import headline, p_value_words, trust_words, verdict_card
from lsn_app.serving.encoder import Encoder
from lsn_app.serving.lru import LRU
from lsn_app.serving.photos import Photo, read_photo
from lsn_app.serving.requests import ZERO_SHOT, DetectorRequest, Problem, parse_classes
from lsn_app.serving.store import Store
from lsn_app.shared.examples import credits_list, load_examples
from lsn_core import Backbone, Detector, Prediction, UserError


def prediction(
    verdict: str = "ID", p_value: float | None = None, threshold: float = 0.1, name: str = "dog"
) -> Prediction:
    return Prediction(verdict, 0.2, threshold, p_value is not None, p_value, name)


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


def test_p_values_in_words() -> None:
    assert p_value_words(0.0123).startswith("Fewer than 2 in 100 known images score this low")
    assert p_value_words(0.02).startswith("At most 2 in 100 known images")
    assert p_value_words(1 / 21).startswith("Fewer than 5 in 100")
    assert "nothing unusual" in p_value_words(0.7)


def test_the_headline_names_the_class_or_the_closest_one() -> None:
    assert headline(prediction("ID")) == "Known: dog"
    assert headline(prediction("OOD")) == "Not one of these classes (closest: dog)"


def test_an_uncalibrated_verdict_says_so_and_a_calibrated_one_gives_its_rate() -> None:
    assert "uncalibrated" in verdict_card(prediction(), 0.95, 0)
    calibrated = verdict_card(prediction(p_value=0.3), 0.9, 50)
    assert "uncalibrated" not in calibrated
    assert "at least 90 % of known photos" in calibrated


def test_too_few_calibration_photos_promise_nothing() -> None:
    few = prediction(p_value=0.5, threshold=-math.inf)
    assert "19 are needed" in trust_words(few, 0.95, 5)
    assert "at least" not in trust_words(few, 0.95, 5)
    assert "no threshold yet" in verdict_card(few, 0.95, 5)


def test_names_from_visitors_are_escaped() -> None:
    assert "<script>" not in verdict_card(prediction(name="<script>alert(1)</script>"), 0.95, 0)


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
    images, texts = tiny_backbone.encode_images, tiny_backbone.encode_texts
    monkeypatch.setattr(tiny_backbone, "encode_images", lambda x: calls.append(("image", len(x))) or images(x))
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
    answers = {rate: ask(store, question(photos[3], "dog, cat", tpr=rate, calibration=photos)) for rate in (0.3, 0.9)}
    for path in tmp_path.glob("*.jpg"):
        path.unlink()
    monkeypatch.setattr(tiny_backbone, "encode_images", None)
    monkeypatch.setattr(tiny_backbone, "encode_texts", None)
    for rate, other in ((0.3, 0.9), (0.9, 0.3)):
        moved = answers[other].at(rate)
        assert moved.prediction == replace(answers[rate].prediction, evidence={}) and moved.tpr == rate
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
    Detector.zero_shot(tiny_backbone, ["zebra", "turtle"]).calibrate(features).save(tmp_path / "animals.safetensors")
    shelf = Store("embedded", detectors_dir=tmp_path)
    answer = ask(shelf, question(photos[0], "of no meaning here", label="animals"))
    assert set(answer.prediction.positive) == {"zebra", "turtle"}
    assert answer.prediction.calibrated
