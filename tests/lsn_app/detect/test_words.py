"""What the Detect tab says: a verdict, how far to trust it, and reasons that bear it out and add up."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lsn_app.detect.answer import Answer, DetectRequest, ask
from lsn_app.detect.opening import choose_opening, is_right
from lsn_app.detect.words import (
    baseline_card,
    headline,
    reasons,
    sentence,
    signed,
    trust_words,
    verdict_card,
    waterfall,
)
from lsn_app.serving.photos import read_photo
from lsn_app.serving.requests import DetectorRequest
from lsn_app.serving.store import Store
from lsn_app.shared.examples import load_examples
from lsn_core import Backbone, Detector, Prediction
from lsn_core.prompts.nouns import nouns
from lsn_core.scores.registry import MATCH, NO, WORLD
from lsn_core.shipped import DETECTORS_DIR


@pytest.fixture
def detector(tiny_backbone: Backbone) -> Detector:
    return Detector.zero_shot(tiny_backbone, ["dog", "cat"])


def answer(detector: Detector, name: str = "dog", p_value: float | None = None, **evidence: float) -> Answer:
    """An answer whose score is as far from the threshold as its evidence says."""
    distance = sum(evidence.values())
    prediction = Prediction(
        verdict="ID" if distance >= 0 else "OOD",
        score=0.2 + distance,
        threshold=0.2,
        calibrated=p_value is not None,
        p_value=p_value,
        predicted_class=name,
        positive={name: 0.3, "cat": 0.2},
        evidence=evidence,
    )
    return Answer(prediction, detector, 0.05, 0.95)


def test_the_card_says_the_verdict_in_words_and_for_programs(detector: Detector) -> None:
    known, unknown = answer(detector, match=0.1), answer(detector, match=-0.1)
    assert headline(known.prediction) == "Known: dog" and headline(unknown.prediction) == "None of these 2 classes"
    assert 'data-verdict="ID" data-calibrated="false"' in verdict_card(known)
    assert 'data-verdict="OOD"' in verdict_card(unknown) and "Closest: dog" in verdict_card(unknown)
    single = replace(unknown.prediction, positive={"dog": 0.3})
    assert headline(single) == "Not “dog”"
    assert "<script>" not in verdict_card(answer(detector, name="<script>alert(1)</script>", match=0.1))


def test_only_enough_photos_promise_a_rate(detector: Detector) -> None:
    features = torch.nn.functional.normalize(torch.randn(40, 64, generator=torch.Generator().manual_seed(0)), dim=-1)
    promised = replace(answer(detector, match=0.1, p_value=0.3), detector=detector.calibrate(features))
    assert "at least 95 % of known photos" in trust_words(promised) and "rule of thumb" not in verdict_card(promised)
    for other in (
        answer(detector, match=0.1),
        replace(answer(detector, match=0.1), detector=detector.calibrate(features[:9])),
    ):
        assert "at least" not in trust_words(other) and "rule of thumb" in verdict_card(other)
    assert "19 are needed" in trust_words(other)


@pytest.mark.parametrize(
    ("evidence", "p_value", "words"),
    [
        ({MATCH: 0.2, WORLD: 0.1}, 0.7, "fits “dog” better than the other classes. It scores above most known photos"),
        ({MATCH: 0.2, NO: -0.1}, 0.3, "although its “no” objects."),
        ({MATCH: 0.2, NO: -0.01}, 0.3, "better than the other classes."),
        ({MATCH: 0.2, WORLD: -0.1}, 0.3, "although it resembles other things, too."),
        ({MATCH: 0.1, NO: -0.3}, 0.012, "its “no” objects. Fewer than 2 in 100 known photos score this low."),
        ({MATCH: -0.3, NO: 0.1}, 0.02, "fits too little. At most 2 in 100 known photos score this low."),
        ({MATCH: -0.3}, None, "“dog” is the closest class, but fits too little."),
    ],
)
def test_the_sentence_names_what_weighed_most(
    detector: Detector, evidence: dict[str, float], p_value: float | None, words: str
) -> None:
    assert words in sentence(answer(detector, p_value=p_value, **evidence))


def test_what_the_photo_resembles_is_named_where_it_decided(detector: Detector) -> None:
    asked = replace(answer(detector, match=0.1, world=-0.4), resembles=("kite", "boat", "sail"))
    assert "looks more like “kite”, “boat” or “sail” than like any of the classes" in sentence(asked)
    assert "kite" not in sentence(replace(asked, prediction=answer(detector, match=0.5, world=-0.4).prediction))


def test_bars_go_from_the_threshold_to_the_score(detector: Detector) -> None:
    html = waterfall(answer(detector, match=0.3, no=-0.5))
    bars = [tuple(map(float, pair)) for pair in re.findall(r"left:([\d.]+)%;width:([\d.]+)%", html)]
    assert bars == [(40.0, 60.0), (0.0, 100.0), (0.0, 40.0)]  # of -0.2 to 0.3, the threshold at 40 %
    assert "--threshold:40.00%" in html and re.findall(r"amount\">([^<]+)", html) == ["+0.30", "−0.50", "−0.20"]
    assert re.findall(r'<i class="(\w+)"', html) == ["for", "against", "against"]
    assert reasons(replace(answer(detector), prediction=Prediction.failed(None, False))) == ""


def test_numbers_have_two_significant_digits() -> None:
    assert [signed(value) for value in (0.1234, -0.00456, 12.3, -7.0, 0.0)] == ["+0.12", "−0.0046", "+12", "−7.0", "+0"]
    assert [signed(value, [0.44, -1.6, 0.0037]) for value in (0.44, -1.6, 0.0037)] == ["+0.44", "−1.60", "+0.00"]
    assert signed(0.097, [12.3]) == "+0.10" and signed(0.0012, [0.0345]) == "+0.001"


def test_mcm_is_told_of_only_by_its_own_verdict(detector: Detector) -> None:
    known, unknown = answer(detector, match=0.1), answer(detector, match=-0.1)
    assert baseline_card(known) == ""
    assert "the same" in baseline_card(replace(known, baseline=known.prediction))
    assert "None of these 2 classes" in baseline_card(replace(known, baseline=unknown.prediction))
    assert "Known: dog" in baseline_card(replace(unknown, baseline=known.prediction))


@pytest.mark.parametrize("label", sorted(path.stem for path in DETECTORS_DIR.glob("*.safetensors")))
def test_no_reason_contradicts_a_shipped_detectors_verdict(label: str, embedded: Backbone) -> None:
    store = Store("embedded")
    for example in load_examples():
        found = ask(store, DetectRequest(read_photo(str(example.path), example.path.name), DetectorRequest("", label)))
        one, text = found.prediction, sentence(found)
        assert one.score is not None and one.threshold is not None
        assert sum(one.evidence.values()) == pytest.approx(one.score - one.threshold, abs=1e-5)
        assert text.startswith("It fits “") == (one.verdict == "ID" or "at first, but" in text), (example.label, text)
        assert ("Together: above" in waterfall(found)) == (one.verdict == "ID")
        assert one.verdict == "OOD" or not re.search("” too little|other things more|Far from", waterfall(found))
        *parts, together = (float(text.replace("−", "-")) for text in re.findall(r"amount\">([^<]+)", waterfall(found)))
        assert sum(parts) == pytest.approx(together, abs=0.021)  # as they are read
        told = [noun for noun in nouns() if noun.name in found.resembles]
        assert not any(one.name in other.kinds for one in told for other in told)


def test_the_page_opens_with_the_detector_that_is_right_most_often(embedded: Backbone) -> None:
    store, examples = Store("embedded"), load_examples()
    opening = choose_opening(store, examples)
    assert opening is not None and is_right(opening.answer.prediction, opening.example)

    def right(label: str) -> int:
        detector = Detector.load(store.detectors[label], embedded)
        return sum(map(is_right, detector.predict([example.path for example in examples]), examples))

    assert right(opening.label) == max(map(right, store.detectors))


def test_without_detectors_there_is_nothing_to_open_with(tmp_path: Path) -> None:
    assert choose_opening(Store("embedded", detectors_dir=tmp_path), load_examples()) is None
