"""Detectors: verdicts, calibration, and files that are refused when they do not fit."""

from __future__ import annotations

import json
import math
import os
import time
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file

from lsn_core import Backbone, Detector, UserError

NAMES = ["dog", "cat", "elephant"]


@pytest.fixture
def detector(tiny_backbone: Backbone) -> Detector:
    return Detector.zero_shot(tiny_backbone, NAMES)


def _features(count: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(count, 64, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_zero_shot_asks_the_two_hand_written_questions(detector: Detector, tiny_backbone: Backbone) -> None:
    texts = ["a photo of a dog", "a photo of a cat", "a photo of an elephant"]
    assert torch.equal(detector.positive, tiny_backbone.encode_texts(texts))
    assert torch.equal(detector.negative[0], tiny_backbone.encode_texts([f"not {text}" for text in texts]))
    features = _features(5)
    positive, negative = detector.cosines(features)
    assert positive.shape == (5, 3) and negative.shape == (5, 1, 3)
    assert negative[2, 0, 1].item() == pytest.approx(float(features[2] @ detector.negative[0, 1]), abs=1e-6)


def test_verdict_follows_the_threshold_and_the_positive_prompts(detector: Detector) -> None:
    calibrated = detector.calibrate(_features(99, seed=1))
    fresh = _features(200, seed=2)
    for tpr in (0.8, 0.95):
        for prediction, score in zip(
            calibrated.predict_features(fresh, tpr), calibrated.score_features(fresh).tolist(), strict=True
        ):
            assert prediction.calibrated and prediction.p_value is not None
            assert prediction.verdict == ("ID" if score >= calibrated.threshold(tpr) else "OOD")
            assert (prediction.p_value <= 1 - tpr + 1e-9) == (prediction.verdict == "OOD")
            assert prediction.predicted_class == max(prediction.positive, key=prediction.positive.__getitem__)
            assert list(prediction.negative) == NAMES and all(len(v) == 1 for v in prediction.negative.values())


def test_cosines_may_be_left_out_and_nothing_else_changes(detector: Detector) -> None:
    calibrated, features = detector.calibrate(_features(99, seed=1)), _features(9, seed=2)
    without = calibrated.predict_features(features, cosines=False)
    assert without == [
        replace(full, positive={}, negative={}) for full in calibrated.predict_features(features) if full.positive
    ]
    rows = [*features[:4].numpy(), UserError("no photo"), *features[4:].numpy()]
    streamed = list(calibrated.stream_rows(rows, batch_size=2, cosines=False))
    assert streamed.pop(4).error == "no photo"
    assert [one.verdict for one in streamed] == [one.verdict for one in without]
    assert [one.score for one in streamed] == pytest.approx([one.score for one in without], abs=1e-6)


def test_another_tpr_is_considered_without_the_image(detector: Detector) -> None:
    calibrated, features = detector.calibrate(_features(99, seed=1)), _features(4, seed=2)
    for before, wanted in zip(
        calibrated.predict_features(features, 0.95), calibrated.predict_features(features, 0.6), strict=True
    ):
        again = calibrated.reconsider(before, 0.6)
        assert again.evidence == pytest.approx(wanted.evidence)
        assert replace(again, evidence={}) == replace(wanted, evidence={})


def test_without_calibration_the_verdict_says_so(detector: Detector) -> None:
    prediction = detector.predict_features(_features(1))[0]
    assert not prediction.calibrated
    assert prediction.p_value is None
    assert prediction.threshold is not None and math.isfinite(prediction.threshold)
    assert 0 < detector.with_score("mcm").uncalibrated_threshold() < 1
    assert sum(prediction.evidence.values()) == pytest.approx(prediction.score - prediction.threshold, abs=1e-5)


def test_too_few_calibration_images_are_valid_json(detector: Detector) -> None:
    few = detector.calibrate(_features(5)).predict_features(_features(1))[0]
    assert few.verdict == "ID" and few.threshold == -math.inf
    assert json.loads(json.dumps(few.as_dict(), allow_nan=False))["threshold"] is None


def test_a_bad_image_does_not_stop_the_others(detector: Detector, examples: Path, tmp_path: Path) -> None:
    (tmp_path / "fake.jpg").write_text("not a picture")
    sources = [
        examples / "dog.jpg",
        tmp_path / "fake.jpg",
        tmp_path / "missing.png",
        (examples / "cat.jpg").read_bytes(),
    ]
    found = detector.predict(sources, batch_size=1)
    assert [p.error is None for p in found] == [True, False, False, True]
    assert found[1].error is not None and "fake.jpg" in found[1].error
    assert found[1].verdict is None and found[1].score is None
    assert found[3] == detector.predict([examples / "cat.jpg"])[0]
    assert detector.score([examples / "dog.jpg"]).tolist() == pytest.approx([found[0].score], abs=1e-6)


def test_vast_photos_are_not_all_held_at_once(
    detector: Detector, examples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = [examples / "dog.jpg", b"no image", examples / "cat.jpg", examples / "zebra.jpg"]
    expected = detector.predict(sources)
    crop = Backbone.crop
    seen: list[weakref.ref[Image.Image]] = []
    most = 0

    def counting(backbone: Backbone, picture: Image.Image) -> torch.Tensor:
        nonlocal most
        seen.append(weakref.ref(picture))
        most = max(most, sum(one() is not None for one in seen))
        time.sleep(0.05)
        return crop(backbone, picture)

    monkeypatch.setattr(Backbone, "crop", counting)
    monkeypatch.setattr("lsn_core.data.feature_stream._LARGE_PIXELS", 50_000)  # the examples have 89,401 each
    done: list[None] = []
    found = detector.predict(sources, on_image=lambda: done.append(None))
    assert most == 1 and len(done) == 4
    assert [one.verdict for one in found] == [one.verdict for one in expected] and found[1] == expected[1]


def test_saved_detectors_come_back_whole(detector: Detector, tmp_path: Path) -> None:
    original = detector.calibrate(_features(40))
    original.contexts = {"positive": torch.randn(16, 64)}
    original.metrics = {"id_accuracy": 0.5}
    original.save(tmp_path / "d.safetensors")
    loaded = Detector.load(tmp_path / "d.safetensors", detector.backbone)
    features = _features(7, seed=5)
    assert loaded.class_names == original.class_names
    assert torch.equal(loaded.score_features(features), original.score_features(features))
    assert loaded.threshold(0.9) == original.threshold(0.9)
    assert torch.equal(loaded.contexts["positive"], original.contexts["positive"])
    assert (loaded.metrics, loaded.config) == (original.metrics, original.config)
    assert sorted(os.listdir(tmp_path)) == ["d.safetensors"]  # no temporary file stays


def test_another_backbone_is_refused(detector: Detector, tmp_path: Path) -> None:
    import copy

    detector.save(tmp_path / "d.safetensors")
    model = copy.deepcopy(detector.backbone.model)
    with torch.no_grad():
        model.text_projection += 0.01
    other = Backbone(model, "other", detector.backbone.tokenizer)
    with pytest.raises(UserError, match="weights"):
        Detector.load(tmp_path / "d.safetensors", other)


def _rewrite(
    path: Path, drop: str | None = None, meta: dict[str, object] | None = None, **tensors: torch.Tensor
) -> None:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        metadata = json.loads(file.metadata()["lsn"])
    stored = load_file(path) | tensors
    if drop:
        del stored[drop]
    save_file(stored, path, {"lsn": json.dumps(metadata | (meta or {}))})


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"drop": "positive"}, "positive"),
        ({"positive": torch.zeros(2, 64)}, "classes"),
        ({"negative": torch.zeros(1, 3, 32)}, "classes"),
        ({"negative": torch.full((1, 3, 64), float("nan"))}, "damaged"),
        ({"meta": {"schema": 99}}, "schema 99"),
        ({"meta": {"class_names": ["dog", "Dog", "cat"]}}, "twice"),
        ({"meta": {"class_names": "dog"}}, "class_names"),
        ({"meta": {"score": "nope"}}, "Known scores"),
        ({"meta": {"config": {"method": ["cocoop"]}}}, "config.method"),
        ({"meta": {"config": {"method": "cocoop", "positive": 3}}}, "config.positive"),
        ({"meta": {"config": {"method": "cocoop"}}}, "none"),
        ({"calibration": torch.tensor([float("inf")])}, "damaged"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, str) else "",
)
def test_files_that_do_not_fit_are_refused(detector: Detector, tmp_path: Path, change: dict, word: str) -> None:
    path = tmp_path / "d.safetensors"
    detector.save(path)
    _rewrite(path, **change)
    with pytest.raises(UserError, match=word):
        Detector.load(path, detector.backbone)


def test_files_that_are_something_else_are_refused(detector: Detector, tmp_path: Path) -> None:
    path = tmp_path / "d.safetensors"
    with pytest.raises(UserError, match="no detector file"):
        Detector.load(path, detector.backbone)
    torch.save({"positive": torch.zeros(1)}, path)  # a pickle
    with pytest.raises(UserError, match="not a safetensors file"):
        Detector.load(path, detector.backbone)
    save_file({"positive": torch.zeros(1)}, path)
    with pytest.raises(UserError, match="not a detector"):
        Detector.load(path, detector.backbone)
    detector.save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="damaged"):
        Detector.load(path, detector.backbone)


def test_saving_never_harms_what_is_there(detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "d.safetensors"
    detector.save(path)
    before = path.read_bytes()

    def full_disk(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("lsn_core.atomic.os.replace", full_disk)
    with pytest.raises(UserError, match="No space"):
        detector.save(path)
    assert path.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["d.safetensors"]
    with pytest.raises(UserError, match="does not exist"):
        detector.save(tmp_path / "no" / "d.safetensors")
    with pytest.raises(UserError, match=r"\.safetensors"):
        detector.save(tmp_path / "d.pt")


@pytest.mark.parametrize(
    ("names", "word"),
    [
        ([], "one class"),
        (["dog", " "], "empty"),
        (["dog", "DOG"], "twice"),
        (["a", 3], "text"),
    ],
)
def test_bad_class_lists(tiny_backbone: Backbone, names: list[str], word: str) -> None:
    with pytest.raises(UserError, match=word):
        Detector.zero_shot(tiny_backbone, names)


def test_bad_templates_long_names_and_foreign_features(tiny_backbone: Backbone, detector: Detector) -> None:
    with pytest.raises(UserError, match="template"):
        Detector.zero_shot(tiny_backbone, NAMES, positive_template="a photo")
    with pytest.raises(UserError, match="tokens"):
        Detector.zero_shot(tiny_backbone, ["word " * 100, "cat"])
    with pytest.raises(UserError, match="64"):
        detector.score_features(torch.zeros(2, 63))
    with pytest.raises(UserError, match="Known scores"):
        detector.score_features(_features(1), score="nope")


def test_a_real_photo_gets_the_right_name(embedded: Backbone, examples: Path) -> None:
    photos = ["dog", "cat", "elephant", "flamingo"]
    detector = Detector.zero_shot(embedded, photos)
    found = detector.predict([examples / f"{name}.jpg" for name in photos])
    assert [p.predicted_class for p in found] == photos
    assert all(p.verdict == "ID" for p in found)
    others = [path for path in sorted(examples.glob("*.jpg")) if path.stem not in photos]
    assert [p.verdict for p in detector.predict(others)].count("OOD") >= 10  # of 12; the threshold is uncalibrated


def test_calibrated_false_alarm_rate_on_real_photos(embedded: Backbone, shared_data: Path, tmp_path: Path) -> None:
    """Calibrated on half of some real photos, the other half is rejected no more often than promised, within chance."""
    from lsn_core.data.features import extract_features
    from lsn_core.data.labelled import load_data

    data = load_data(shared_data / "imagenette" / "val.parquet").subset(np.arange(200))
    features = extract_features(embedded, data, cache=tmp_path, progress=False).features
    detector = Detector.zero_shot(embedded, data.class_names)
    rates = []
    for seed in range(20):
        order = torch.randperm(200, generator=torch.Generator().manual_seed(seed))
        calibrated = detector.calibrate(features[order[:100]])
        rejected = [p.verdict == "OOD" for p in calibrated.predict_features(features[order[100:]], tpr=0.9)]
        rates.append(np.mean(rejected))
    assert np.mean(rates) < 0.1 + 0.03
    assert np.mean(rates) > 0.03
