"""What a detector was fitted to comes back from its file as it was, or is refused in a sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support import REPO, MadeUpBackbone, unit_vectors
from torch import Tensor

from lsn_core import Backbone, Detector, UserError
from lsn_core.detector.choice import Choice
from lsn_core.detector.fit import Fit
from lsn_core.scores.photos import KnownPhotos
from lsn_core.scores.registry import SCORES, WHOLE, spreads

NAMES = ("cat", "dog", "zebra")
VERSION_0_1 = REPO / "tests" / "fixtures" / "version_0.1"


@pytest.fixture
def fitted() -> Detector:
    """A detector with all that training can leave in one."""
    backbone: Any = MadeUpBackbone()
    photos = KnownPhotos(unit_vectors(30, 3), torch.arange(30) % 3, 3).rounded()
    detector = Detector(backbone, NAMES, unit_vectors(3, 2), unit_vectors(3, 4)[None], fit=Fit(photos=photos))
    inputs = detector.inputs(unit_vectors(20, 6))
    units = {name: spreads(detector.parts(inputs, name)) for name in SCORES if not SCORES[name].sum_of}
    row = {"auroc": 0.9, "fpr95": 0.3, "lead": 0.01, "lead_low": -0.01, "lead_high": 0.03}
    choice = Choice("fusion", {"fusion": row, "neglabel": row}, (("cat",), ("dog", "zebra")), True, "So.")
    fit = Fit(photos=photos, units=units, choice=choice, test_unit=0.02)
    return detector.with_fit(fit, "fusion").calibrate(unit_vectors(25, 7))


def _changed(path: Path, change: Callable[[dict[str, Any], dict[str, Tensor]], None]) -> Path:
    with safe_open(path, "pt") as file:
        metadata = json.loads(file.metadata()["lsn"])
    tensors = load_file(path)
    change(metadata, tensors)
    save_file(tensors, path, {"lsn": json.dumps(metadata)})
    return path


@pytest.mark.parametrize("kept", ["all", "means", None])
def test_it_comes_back_as_it_was(kept: str | None, fitted: Detector, tmp_path: Path) -> None:
    photos = fitted.fit.photos
    assert photos is not None
    keep = {"all": photos, "means": photos.condensed().rounded(), None: None}[kept]
    score = {"all": "fusion", "means": "prototypes", None: "neglabel-lsn"}[kept]
    fit = Fit(fitted.fit.units, None, keep, fitted.fit.choice, 0.02)
    detector = fitted.with_fit(fit, score).calibrate(unit_vectors(25, 7))
    detector.save(tmp_path / "d.safetensors")
    loaded = Detector.load(tmp_path / "d.safetensors", fitted.backbone)
    images = unit_vectors(6, 8)
    for name in SCORES:
        if SCORES[name].needs <= detector.has:
            assert torch.equal(loaded.score_features(images, name), detector.score_features(images, name))
    assert loaded.has == detector.has and loaded.predict_features(images) == detector.predict_features(images)
    assert loaded.fit.choice == detector.fit.choice and loaded.fit.units == detector.fit.units
    assert loaded.fit.profile == detector.fit.profile and loaded.fit.test_unit == 0.02
    loaded.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "d.safetensors").read_bytes()


def _fit(**values: Any) -> Callable[[dict[str, Any], dict[str, Tensor]], None]:
    return lambda metadata, tensors: metadata["fit"].update(values)


def _tensors(**values: Tensor) -> Callable[[dict[str, Any], dict[str, Tensor]], None]:
    return lambda metadata, tensors: tensors.update({f"photos.{name}": value for name, value in values.items()})


def _without(name: str) -> Callable[[dict[str, Any], dict[str, Tensor]], None]:
    return lambda metadata, tensors: tensors.__delitem__(name)


ROW = {"auroc": "high"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_fit(units=[1]), "damaged"),
        (_fit(units={"knn": 3}), "damaged"),
        (_fit(units={"knn": {WHOLE: [0.0]}}), "damaged"),
        (_fit(units={"knn": {WHOLE: [0.0, float("nan")]}}), "not finite"),
        (_fit(units={"knn": {WHOLE: [0.0, 10**400]}}), "damaged"),
        (_fit(units={"knn": {"photos": [0.0, 1.0]}}), "parts"),
        (_fit(units={"knn": {WHOLE: [0.0, 1.0], "moon": [0.0, 1.0]}}), "moon"),
        (_fit(units={}), "needs units"),
        (_fit(profile={}), "parts"),
        (_fit(profile=[0.0, 1.0]), "damaged"),
        (_fit(test_unit="warm"), "damaged"),
        (_fit(test_unit=-0.1), "no temperature"),
        (_fit(test_unit=float("inf")), "no temperature"),
        (_fit(choice=3), "folds is damaged"),
        (_fit(choice={"score": "lsn"}), "folds is damaged"),
        (
            _fit(choice={"score": "lsn", "folds": {"lsn": ROW}, "hidden": [], "learning_helps": True, "reason": ""}),
            "folds is damaged",
        ),
        (_fit(photos="some"), "photos are missing or damaged"),
        (_fit(photos=None), "mean photos"),
        (_without("photos.features"), "photos are missing"),
        (_without("photos.labels"), "photos are missing"),
        (_tensors(labels=torch.full((30,), 3, dtype=torch.int32)), "photos are missing or damaged"),
        (_tensors(labels=torch.zeros(30)), "photos.labels wrong"),
        (_tensors(labels=torch.zeros(29, dtype=torch.int32)), "photos are missing or damaged"),
        (_tensors(features=torch.zeros(30, 3).half()), "photos are missing or damaged"),
        (_tensors(features=torch.zeros(30).half()), "photos.features wrong"),
        (_tensors(features=torch.zeros(0, 16).half(), labels=torch.zeros(0, dtype=torch.int32)), "photos.features"),
        (_tensors(features=torch.full((30, 16), float("nan")).half()), "damaged"),
    ],
)
def test_damaged_values_are_refused_in_a_sentence(
    change: Callable[[dict[str, Any], dict[str, Tensor]], None], words: str, fitted: Detector, tmp_path: Path
) -> None:
    fitted.save(tmp_path / "d.safetensors")
    with pytest.raises(UserError, match=rf"(?s)d\.safetensors.*{words}"):
        Detector.load(_changed(tmp_path / "d.safetensors", change), fitted.backbone)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("positive", torch.tensor(1.0)),
        ("positive", torch.ones(3, 16).to(torch.float8_e4m3fn)),
        ("negative", torch.ones(1, 3, 16, dtype=torch.complex64)),
        ("negative", torch.ones(3, 16)),
        ("calibration", torch.ones(4, dtype=torch.bfloat16)),
        ("calibration", torch.ones(2, 2)),
        ("contexts.positive.contexts", torch.ones(3, dtype=torch.bool)),
    ],
)
def test_tensors_of_another_kind_are_refused(name: str, value: Tensor, fitted: Detector, tmp_path: Path) -> None:
    fitted.save(tmp_path / "d.safetensors")
    path = _changed(tmp_path / "d.safetensors", lambda metadata, tensors: tensors.update({name: value}))
    with pytest.raises(UserError, match=f"damaged: {name} wrong"):
        Detector.load(path, fitted.backbone)


def test_a_profile_of_another_score_is_told_of(fitted: Detector, tmp_path: Path) -> None:
    fitted.save(tmp_path / "d.safetensors")
    path = _changed(tmp_path / "d.safetensors", _fit(profile={WHOLE: [0.0, 1.0], "match": [0.0, 1.0]}))
    with pytest.raises(UserError, match="another score"):
        Detector.load(path, fitted.backbone).predict_features(unit_vectors(1, 8))


def test_numbers_of_thousands_of_digits_and_deep_metadata_are_damaged(fitted: Detector, tmp_path: Path) -> None:
    fitted.save(tmp_path / "d.safetensors")
    for header in ('{"schema": ' + "9" * 5000 + "}", "[" * 100_000):
        save_file(load_file(tmp_path / "d.safetensors"), tmp_path / "d.safetensors", {"lsn": header})
        with pytest.raises(UserError, match="damaged metadata"):
            Detector.load(tmp_path / "d.safetensors", fitted.backbone)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("method", ["coop", "cocoop"])
def test_a_file_of_version_0_1_scores_as_it_did(method: str, tiny_backbone: Backbone) -> None:
    """There τ = 1 and τ̄ = 5 were absolute, whatever the backbone's own temperature."""
    detector = Detector.load(VERSION_0_1 / f"{method}.safetensors", tiny_backbone)
    images = unit_vectors(5, 1, 64)
    positive, negative = (x.double().numpy() for x in detector.text_features(images))
    p = np.exp(np.einsum("nd,ncd->nc", images.numpy(), positive))
    n = np.exp(np.einsum("nd,nkcd->nkc", images.numpy(), negative) / 5)
    mcm = p.max(axis=1) / p.sum(axis=1)
    min_cm = (n.min(axis=2) / n.sum(axis=2)).mean(axis=1)
    assert detector.score_name == "lsn" and detector.fit.test_unit == 0.01
    assert detector.score_features(images).numpy() == pytest.approx(mcm - min_cm, abs=1e-6)
    assert detector.score_features(images, "mcm").numpy() == pytest.approx(mcm, abs=1e-6)
    assert detector.score_features(images, "negatives-only").numpy() == pytest.approx(-min_cm, abs=1e-6)
    known = detector.calibration
    assert known is not None
    below = np.array([(known.scores <= score).sum() for score in detector.score_features(images).double().numpy()])
    for prediction, count in zip(detector.predict_features(images, tpr=0.6), below, strict=True):
        assert prediction.p_value == pytest.approx((1 + count) / (len(known) + 1))
        assert prediction.score is not None and prediction.threshold is not None
        assert sum(prediction.evidence.values()) == pytest.approx(prediction.score - prediction.threshold, abs=1e-5)
