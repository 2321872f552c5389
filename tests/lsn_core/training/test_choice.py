"""The choice of a score: what its folds may see, what it chooses, and that calibration keeps its promise with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import MadeUpBackbone, unit_vectors
from torch import Tensor

from lsn_core import Backbone, Detector, TrainConfig, UserError, get_preset, train
from lsn_core.detector.fit import Fit
from lsn_core.metrics import auroc
from lsn_core.scores.photos import KnownPhotos
from lsn_core.scores.registry import BASELINE, NEGATIVES, SCORES
from lsn_core.training import choice as choosing
from lsn_core.training.assembly import finish
from lsn_core.training.choice import Fold, choose_score, make_folds
from lsn_core.training.loop import Progress, TrainingStopped
from lsn_core.training.shots import Shots, draw_shots

NAMES = ("cat", "dog", "hen", "zebra", "gas pump", "church", "banjo")
pytestmark = pytest.mark.usefixtures("one_thread")


# -- folds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [3, 4, 5, 7])
def test_every_class_is_hidden_once_and_only_training_photos_are_used(classes: int) -> None:
    labels = torch.arange(classes * 6) % classes
    number = torch.arange(len(labels), dtype=torch.float32)[:, None]  # a photo's feature is its number
    shots = Shots(number, labels, -1 - number, labels)
    folds = make_folds(shots, classes, seed=1)
    assert len(folds) == (3 if classes == 3 else 2)
    assert sorted(c for fold in folds for c in fold.hidden) == list(range(classes))
    for fold in folds:
        assert sorted(fold.known + fold.hidden) == list(range(classes)) and len(fold.known) >= 2
        learned, held = (part[:, 0].long() for part in (fold.shots.features, fold.shots.held_out))
        for photos, own in ((learned, fold.shots.labels), (held, fold.shots.held_out_labels)):
            assert torch.equal(labels[photos], torch.tensor(fold.known)[own]) and set(own.tolist()) <= {*range(classes)}
        everything = torch.cat([learned, held, fold.unknown[:, 0].long()])
        assert sorted(everything.tolist()) == list(range(len(labels)))  # each training photo once, no other
        assert set(labels[fold.unknown[:, 0].long()].tolist()) == set(fold.hidden)
        assert len(held) == round(len(fold.known) * 6 * 0.25)
    assert [fold.hidden for fold in make_folds(shots, classes, seed=1)] == [fold.hidden for fold in folds]


def test_two_classes_or_one_photo_each_make_no_folds() -> None:
    x = torch.arange(12.0)[:, None]
    assert make_folds(Shots(x, torch.arange(12) % 2, x, torch.arange(12) % 2), 2, 0) == []
    assert make_folds(Shots(x, torch.arange(12), x[:0], torch.arange(0)), 12, 0) == []


# -- choosing ---------------------------------------------------------------------------------------------------------


def world(seed: int, signal: str, photos: int = 60) -> tuple[list[tuple[Fold, Detector]], Sequence[str]]:
    """Folds of four classes whose photos differ from the hidden ones' in what one kind of prompt says alone.

    Args:
        signal: "negatives": hidden photos lie towards the negative prompts, and no text tells more. "words": known
            photos lie towards their written prompts, and what was learned is random.
    """
    backbone: Any = MadeUpBackbone()
    names = NAMES[:4]
    written = backbone.encode_texts(["", ""])  # of two known classes
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.cat([written, unit_vectors(1, seed)]).T).Q.T
    no = basis[2]  # at a right angle to both written prompts
    folds = []
    for hidden in ((0, 1), (2, 3)):
        known = tuple(sorted({0, 1, 2, 3} - {*hidden}))
        labels = torch.arange(photos) % 2
        inside, outside = (torch.randn(photos, 16, generator=generator) for _ in range(2))
        if signal == "negatives":
            inside, outside = inside - 2 * no, outside + 2 * no
            positive, negative = written, no.expand(1, 2, -1)
        else:
            inside = inside + 2.5 * written[labels]
            positive, negative = unit_vectors(2, seed + 1), unit_vectors(2, seed + 2)[None]
        inside, outside = F.normalize(inside, dim=-1), F.normalize(outside, dim=-1)
        half = photos // 2
        shots = Shots(inside[:half], labels[:half], inside[half:], labels[half:])
        fit = Fit(photos=KnownPhotos(shots.features, shots.labels, 2))
        detector = Detector(backbone, [names[c] for c in known], positive, negative, fit=fit)
        folds.append((Fold(known, hidden, shots, outside), detector))
    return folds, names


def test_learned_negatives_that_tell_everything_are_chosen() -> None:
    for seed in range(3):
        choice, measured = choose_score(*world(seed, "negatives"))
        assert NEGATIVES in SCORES[choice.score].needs and choice.learning_helps
        assert choice.reason.startswith("Learning helps") and choice.score in choice.reason
        row = choice.folds[choice.score]
        assert row["auroc"] > 0.85 and row["lead"] > 0.2 and 0 < row["lead_low"] <= row["lead"] <= row["lead_high"]
        assert choice.hidden == (("cat", "dog"), ("hen", "zebra"))
        assert set(choice.folds) == set(choosing.CANDIDATES)
        assert set(measured.units) == {name for name, score in SCORES.items() if not score.sum_of}


def test_learned_prompts_that_are_noise_are_not() -> None:
    for seed in range(3):
        choice, _ = choose_score(*world(seed, "words"))
        assert NEGATIVES not in SCORES[choice.score].needs and not choice.learning_helps
        assert choice.reason.startswith("Hand-written prompts") and choice.folds[choice.score]["auroc"] > 0.8


def test_the_table_is_the_mean_over_the_folds() -> None:
    folds, names = world(0, "words")
    choice, _ = choose_score(folds, names)
    for name in ("difference", "neglabel", BASELINE):
        values = [
            auroc(detector.score_features(fold.shots.held_out, name), detector.score_features(fold.unknown, name))
            for fold, detector in folds
        ]
        assert choice.folds[name]["auroc"] == pytest.approx(np.mean(values), abs=1e-5)
        assert choice.folds[name]["lead"] == pytest.approx(
            choice.folds[name]["auroc"] - choice.folds[BASELINE]["auroc"], abs=2e-5
        )


def test_a_score_that_was_asked_for_is_taken_and_still_measured() -> None:
    chosen, _ = choose_score(*world(0, "words"))
    given, _ = choose_score(*world(0, "words"), "neglabel-lsn")
    assert given.score == "neglabel-lsn" != chosen.score
    assert given.folds == chosen.folds and "asked for" in given.reason


@pytest.mark.parametrize(
    ("aurocs", "noise", "chosen"),
    [
        ({"lsn": 0.9015}, 0.0, "neglabel-lsn"),  # no more than a fifth of a point
        ({"lsn": 0.91}, 0.02, "neglabel-lsn"),  # within a standard error, so it may be chance
        ({"neglabel": 0.9015}, 0.02, "neglabel"),  # what is learned has to be worth it
        ({"neglabel": 0.91}, 0.002, "neglabel"),
        ({"neglabel": 0.91, "lsn": 0.93}, 0.002, "lsn"),
        ({"neglabel": 0.93, "lsn": 0.91}, 0.002, "neglabel"),
    ],
)
def test_the_first_candidate_stays_unless_another_is_clearly_better(
    aurocs: dict[str, float], noise: float, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    values = {"neglabel-lsn": 0.9, BASELINE: 0.8} | aurocs
    made = {name: ((value, 0.5), value + noise * random.normal(size=200), {}) for name, value in values.items()}
    made["neglabel-lsn"] = (0.9, 0.5), np.full(200, 0.9), {}
    monkeypatch.setattr(choosing, "fold_scores", lambda fold, detector, seed: made)
    choice, _ = choose_score(*world(0, "words"))
    assert choice.score == chosen and set(choice.folds) == set(values)


# -- calibration ------------------------------------------------------------------------------------------------------


def test_calibration_keeps_its_promise_for_a_score_that_was_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 19 calibration photos, one in ten of new photos of known classes is rejected at 90 %, on average."""
    monkeypatch.setattr(choosing, "DRAWS", 10)
    backbone: Any = MadeUpBackbone()
    names, config, rejected = NAMES[:4], TrainConfig(choose_score=True), []
    scores = set()
    for trial in range(60):
        generator = torch.Generator().manual_seed(trial)
        text = unit_vectors(4, 2)

        def photos(count: int, generator: torch.Generator = generator, text: Tensor = text) -> tuple[Tensor, Tensor]:
            labels = torch.randint(4, (count,), generator=generator)
            return F.normalize(text[labels] + 0.4 * torch.randn(count, 16, generator=generator), dim=-1), labels

        (x, y), (held, held_labels), (fresh, _) = photos(40), photos(19), photos(40)
        shots = Shots(x, y, held, held_labels)
        negative = unit_vectors(4, 100 + trial)[None]

        def made(classes: Sequence[int], shots: Shots, negative: Tensor = negative, text: Tensor = text) -> Detector:
            fit = Fit(photos=KnownPhotos(shots.features, shots.labels, len(classes)))
            chosen = [names[c] for c in classes]
            return Detector(backbone, chosen, text[list(classes)], negative[:, list(classes)], fit=fit)

        folds = [(fold, made(fold.known, fold.shots)) for fold in make_folds(shots, 4, trial)]
        detector = finish(made(range(4), shots), config, shots, folds, 0.0)
        scores.add(detector.score_name)
        rejected.append(np.mean([p.verdict == "OOD" for p in detector.predict_features(fresh, tpr=0.9)]))
        assert detector.calibration is not None and len(detector.calibration) == 19
    assert len(scores) > 1  # it does choose
    assert np.mean(rejected) == pytest.approx(0.1, abs=0.03)  # a standard error is 0.01


# -- in training ------------------------------------------------------------------------------------------------------


def short(**changes: object) -> TrainConfig:
    preset = get_preset("fast")
    schedule = {"context_length": 2, "updates": 3, "batch_size": 8}
    positive, negative = replace(preset.positive, **schedule), replace(preset.negative, **schedule, sets=2)
    return replace(preset, positive=positive, negative=negative, **changes)


def clouds(classes: int, per_class: int = 10) -> tuple[Tensor, np.ndarray]:
    labels = np.arange(classes * per_class) % classes
    return F.normalize(unit_vectors(classes, 3, 64)[labels] + 0.1 * unit_vectors(len(labels), 4, 64), dim=-1), labels


def test_calibration_photos_have_no_say(tiny_backbone: Backbone) -> None:
    x, y = clouds(4)
    names, config = NAMES[:4], short()
    held = draw_shots(x, y, names, 64, config.shots, config.calibration_share, config.seed).held_out
    calibrating = torch.cdist(x, held).amin(dim=1) < 1e-2
    assert int(calibrating.sum()) == len(held) == 8
    changed = x.clone()
    changed[calibrating] = unit_vectors(8, 9, 64)
    first, second = (train(features, y, names, tiny_backbone, config) for features in (x, changed))
    assert first.fit.choice is not None and first.fit.choice == second.fit.choice
    assert first.fit.units == second.fit.units and first.score_name == second.score_name
    assert all(torch.equal(second.contexts[name], value) for name, value in first.contexts.items())
    assert first.calibration is not None and second.calibration is not None
    assert not np.array_equal(first.calibration.scores, second.calibration.scores)


def test_a_run_stopped_while_it_chooses_ends_with_the_same_bytes(tiny_backbone: Backbone, tmp_path: Path) -> None:
    x, y = clouds(4)
    names, config = NAMES[:4], short()
    phases: list[str] = []
    whole = train(x, y, names, tiny_backbone, config, callback=lambda now: phases.append(now.phase))
    assert phases == ["positive"] * 3 + ["negative"] * 3 + ["choice"] * 12  # two folds of both kinds

    def stop(now: Progress) -> bool:
        return now.phase == "choice" and now.step % 4 == 0

    stops = 0
    while True:
        try:
            resumed = train(x, y, names, tiny_backbone, config, callback=stop, checkpoint_dir=tmp_path)
            break
        except TrainingStopped:
            stops += 1
    assert stops == 3
    for name, detector in (("whole", whole), ("resumed", resumed)):
        del detector.metrics["train_seconds"]
        detector.save(tmp_path / f"{name}.safetensors")
    assert (tmp_path / "whole.safetensors").read_bytes() == (tmp_path / "resumed.safetensors").read_bytes()
    loaded = Detector.load(tmp_path / "whole.safetensors", tiny_backbone)
    assert loaded.fit.choice == whole.fit.choice and loaded.predict_features(x) == whole.predict_features(x)


@pytest.mark.parametrize("classes", [2, 3])
def test_few_classes(classes: int, tiny_backbone: Backbone) -> None:
    x, y = clouds(classes)
    detector = train(x, y, NAMES[:classes], tiny_backbone, short())
    choice = detector.fit.choice
    assert detector.calibration is not None and len(detector.calibration) == classes * 2
    if classes == 2:
        assert choice is not None and choice.score == detector.score_name == "neglabel"
        assert not choice.learning_helps and not choice.folds and "too few classes" in choice.reason
        assert set(detector.contexts) == {"positive.contexts", "negative.contexts"}  # learned, for other scores
    else:
        assert choice is not None and sorted(choice.hidden) == [("cat",), ("dog",), ("hen",)]
        assert detector.score_name == choice.score


@pytest.mark.parametrize("per_class", [1, 2, 4])
def test_few_photos(per_class: int, tiny_backbone: Backbone) -> None:
    x, y = clouds(4, per_class)
    detector = train(x, y, NAMES[:4], tiny_backbone, short())
    assert (detector.calibration is None) == (per_class == 1)
    choice = detector.fit.choice
    assert choice is not None and bool(choice.folds) == (per_class == 4)
    verdicts = detector.predict_features(x)
    assert all(p.score is not None and p.verdict is not None for p in verdicts)


def test_a_sum_that_was_asked_for_gets_its_units_from_folds(tiny_backbone: Backbone) -> None:
    detector = train(*clouds(4), NAMES[:4], tiny_backbone, short(score_name="fusion"))
    assert detector.score_name == "fusion" and set(detector.fit.units) >= {"prototypes", "vim", "lsn"}
    assert detector.fit.photos is not None and detector.fit.photos.complete
    known, far = clouds(4)[0], unit_vectors(30, 5, 64)
    assert auroc(detector.score_features(known), detector.score_features(far)) > 0.9
    for name in ("neglabel-lsn", "mcm"):
        assert detector.score_features(known, name).isfinite().all()


@pytest.mark.parametrize(
    ("classes", "changes", "words"),
    [
        (2, {"score_name": "neglabel-lsn"}, "needs units from folds"),
        (4, {"score_name": "lsn", "no_negatives": True}, "needs negative prompts"),
        (4, {"score_name": "largest"}, "Known scores"),
        (1, {"score_name": "mcm"}, "only one"),
    ],
)
def test_a_score_that_cannot_serve_is_refused_before_anything_is_learned(
    classes: int, changes: dict[str, Any], words: str, tiny_backbone: Backbone
) -> None:
    config = short(score_name=changes["score_name"])
    if changes.get("no_negatives"):
        config = replace(config, negative=replace(config.negative, sets=0))
    steps: list[Progress] = []
    with pytest.raises(UserError, match=words):
        train(*clouds(classes), NAMES[:classes], tiny_backbone, config, callback=steps.append)
    assert steps == []


@pytest.mark.parametrize(("score", "expected"), [(None, "neglabel"), ("knn", "knn"), ("prototypes", "prototypes")])
def test_one_class_is_calibrated_as_it_is(score: str | None, expected: str, tiny_backbone: Backbone) -> None:
    x = F.normalize(unit_vectors(1, 3, 64) + 0.1 * unit_vectors(100, 4, 64), dim=-1)
    detector = train(x, np.zeros(100, int), ["hotdog"], tiny_backbone, short(score_name=score))
    assert detector.score_name == expected and detector.contexts == {}
    choice = detector.fit.choice
    assert choice is not None and not choice.learning_helps and "One class" in choice.reason
    verdicts = [p.verdict for p in detector.predict_features(unit_vectors(40, 5, 64))]
    if score is not None:  # a random backbone's words say nothing
        assert verdicts.count("OOD") > 35
    assert [p.verdict for p in detector.predict_features(x)].count("ID") > 85
