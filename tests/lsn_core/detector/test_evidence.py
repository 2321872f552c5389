"""Evidence adds up to the distance from the threshold, and thresholds without calibration are what they say."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
import torch
from support import MadeUpBackbone, unit_vectors

from lsn_core import Detector, UserError
from lsn_core.calibration import Calibration
from lsn_core.detector.evidence import at_threshold, evidence
from lsn_core.detector.fit import Fit
from lsn_core.detector.uncalibrated import just_convincing, normal_threshold, typical_profile
from lsn_core.scores.photos import KnownPhotos
from lsn_core.scores.registry import SCORES, WHOLE, spreads

NAMES = ("cat", "dog", "zebra")
NEEDS_PHOTOS = (
    "prototypes",
    "knn",
    "vim",
    "neglabel-lsn",
    "prototypes-vim",
    "fusion",
)  # their thresholds come from photos


@pytest.fixture
def fitted() -> Detector:
    """A detector with made-up prompts that every score can serve, fitted to photos, but not calibrated."""
    backbone: Any = MadeUpBackbone()
    photos = KnownPhotos(unit_vectors(30, 3), torch.arange(30) % 3, 3)
    detector = Detector(
        backbone,
        NAMES,
        unit_vectors(3, 2),
        torch.stack([unit_vectors(3, 4), unit_vectors(3, 5)]),
        fit=Fit(photos=photos),
    )
    inputs = detector.inputs(unit_vectors(20, 6))
    single = [name for name, score in SCORES.items() if not score.sum_of]
    units = {name: spreads(detector.parts(inputs, name)) for name in single}
    return detector.with_fit(Fit(photos=photos, units=units), "lsn")


@pytest.mark.parametrize("calibrated", [True, False])
@pytest.mark.parametrize("name", SCORES)
def test_it_adds_up_to_score_less_threshold(name: str, calibrated: bool, fitted: Detector) -> None:
    detector = fitted.with_score(name)
    if calibrated:
        detector = detector.calibrate(unit_vectors(60, 7))
    predictions = detector.predict_features(unit_vectors(9, 8), tpr=0.9)
    for prediction in predictions:
        assert prediction.calibrated == calibrated and prediction.score_name == name
        assert prediction.score is not None and prediction.threshold is not None
        assert prediction.evidence.keys() == detector.parts(detector.inputs(unit_vectors(1, 8))).keys()
        distance = prediction.score - prediction.threshold
        assert sum(prediction.evidence.values()) == pytest.approx(distance, abs=1e-4 + 1e-5 * abs(prediction.score))
        assert (prediction.verdict == "ID") == (distance >= 0)


@pytest.mark.parametrize("name", [name for name in SCORES if name not in NEEDS_PHOTOS])
def test_it_adds_up_without_any_photo(name: str, fitted: Detector) -> None:
    """By names alone; and for a calibrated detector whose file is too old to tell how its parts were spread."""
    bare = fitted.with_fit(Fit(), name)
    scores = bare.score_features(unit_vectors(50, 9))
    parts = bare.backbone, bare.class_names, bare.positive, bare.negative
    old = Detector(*parts, score_name=name, calibration=Calibration(scores.numpy()))
    for detector in (bare, old):
        for prediction in detector.predict_features(unit_vectors(5, 8), tpr=0.8):
            assert prediction.score is not None and prediction.threshold == detector.threshold(0.8)
            assert sum(prediction.evidence.values()) == pytest.approx(prediction.score - prediction.threshold, abs=1e-4)


def test_an_infinite_threshold_has_no_evidence(fitted: Detector) -> None:
    few = fitted.calibrate(unit_vectors(5, 7)).predict_features(unit_vectors(2, 8))
    assert [prediction.threshold for prediction in few] == [-math.inf] * 2
    assert [prediction.evidence for prediction in few] == [{}, {}]


def test_a_typical_image_at_the_threshold() -> None:
    """Each part gives way in proportion to how much it varies; equally where none does."""
    profile = {WHOLE: (1.0, 9.0), "match": (4.0, 2.0), "no": (-3.0, 1.0)}  # their means add up to 1
    assert at_threshold(profile, -5.0) == pytest.approx({"match": 0.0, "no": -5.0})
    assert at_threshold({WHOLE: (1.0, 0.0), "match": (4.0, 0.0), "no": (-3.0, 0.0)}, 0.0) == {"match": 3.5, "no": -3.5}
    assert at_threshold(profile, -math.inf) == {}
    parts = {"match": torch.tensor([0.5, -1.0]), "no": torch.tensor([-4.0, -5.5])}
    assert evidence(parts, at_threshold(profile, -5.0)) == [
        {"match": pytest.approx(0.5), "no": pytest.approx(1.0)},
        {"match": pytest.approx(-1.0), "no": pytest.approx(-0.5)},
    ]
    with pytest.raises(UserError, match="another score"):
        evidence(parts, {"match": 0.0})


def test_a_threshold_from_a_normal_distribution_keeps_the_share_it_says(fitted: Detector) -> None:
    drawn = np.random.default_rng(0).normal(2.0, 3.0, 20000)
    threshold = normal_threshold({WHOLE: (2.0, 3.0)}, 0.9)
    assert threshold == pytest.approx(2.0 - 3.0 * NormalDist().inv_cdf(0.9))
    assert np.mean(drawn >= threshold) == pytest.approx(0.9, abs=0.01)
    # The profile of a single score is that of the photos it was fitted to.
    scores = fitted.score_features(unit_vectors(20, 6), "knn").double()
    assert fitted.with_score("knn").fit.profile[WHOLE] == pytest.approx(  # type: ignore[index]
        (float(scores.mean()), float(scores.std(correction=0)))
    )


def test_the_profile_of_a_sum_takes_its_terms_as_independent() -> None:
    units = {
        "neglabel": {WHOLE: (5.0, 2.0), "match": (9.0, 3.0), "world": (-4.0, 1.0)},
        "difference": {WHOLE: (0.5, 0.1), "match": (0.3, 0.05), "no": (0.2, 0.2)},
    }
    profile = typical_profile("neglabel-lsn", units)
    assert profile is not None and all(mean == 0 for mean, _ in profile.values())
    assert {name: spread for name, (_, spread) in profile.items()} == pytest.approx(
        {WHOLE: math.sqrt(2), "match": math.hypot(1.5, 0.5), "world": 0.5, "no": 2.0}
    )
    assert typical_profile("neglabel", units) == units["neglabel"]
    assert typical_profile("knn", units) is None
    assert typical_profile("neglabel-lsn", {"neglabel": units["neglabel"]}) is None


def test_a_just_convincing_image_by_hand() -> None:
    """Nine tenths for the best class at the model's own temperature; against nouns, half of what nothing at all has."""
    own, classes = 0.02, 4
    lead = own * math.log(9 * 3)  # softmax of one class at `lead` and three at 0: 27 / 30
    assert math.exp(lead / own) / (math.exp(lead / own) + 3) == pytest.approx(0.9)
    assert just_convincing("max-cosine", classes, 2, 0, own, own) == pytest.approx({"match": lead})
    assert just_convincing("difference", classes, 2, 0, own, own) == pytest.approx({"match": lead, "no": 0.0})
    powers = math.exp(lead / 2.0)  # of the paper's τ = 1 in units of 0.02 / 0.01
    lsn = just_convincing("lsn", classes, 2, 0, own, own)
    assert lsn == pytest.approx({"match": powers / (powers + 3), "no": -0.25}, abs=1e-6)
    assert sum(just_convincing("neglabel", classes, 2, 100, own, own).values()) == pytest.approx(math.log(4 / 200))  # type: ignore[union-attr]
    assert all(just_convincing(name, classes, 2, 100, own, own) is None for name in NEEDS_PHOTOS)
    even = just_convincing("sigmoid", classes, 2, 0, own, own, bias=-12.0)  # as likely a match as not
    assert even == pytest.approx({"match": 0.5})


def test_without_photos_some_scores_have_no_threshold(fitted: Detector) -> None:
    detector = fitted.with_fit(Fit(photos=fitted.fit.photos), "knn")
    with pytest.raises(UserError, match="calibrate the detector with photos"):
        detector.predict_features(unit_vectors(1, 8))
    prediction = detector.calibrate(unit_vectors(40, 7)).predict_features(unit_vectors(1, 8))[0]
    assert prediction.verdict is not None


def test_a_threshold_without_nouns_encodes_none(fitted: Detector) -> None:
    """Thousands of nouns take minutes with a large text tower."""
    backbone: Any = MadeUpBackbone(nouns=False)
    detector = Detector(backbone, NAMES, fitted.positive, fitted.negative, score_name="difference")
    assert detector.predict_features(unit_vectors(2, 8))[0].verdict is not None
