"""Training: equal to the equations step by step, and clear about bad input."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from reference import lsn as literal
from small_training import NAMES, clusters, small

from lsn_core import Detector, TrainConfig, UserError, get_preset, train
from lsn_core.backbones.backbone import Backbone
from lsn_core.detector.prompts import ConditionalPrompts, FixedPrompts
from lsn_core.shipped import EMBEDDED_DIR
from lsn_core.training.config import METHODS
from lsn_core.training.phase import Phase
from lsn_core.training.presets import ABLATIONS, PRESETS, ablate
from lsn_core.training.shots import draw_shots

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(params=["tiny", "embedded"])
def backbone(request: pytest.FixtureRequest) -> Backbone:
    if request.param == "embedded" and not (EMBEDDED_DIR / "open_clip_config.json").is_file():
        pytest.skip("the embedded checkpoint has not been built")
    return request.getfixturevalue("tiny_backbone" if request.param == "tiny" else "embedded")


# -- faithful ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
def test_a_step_of_each_preset_equals_the_equations(backbone: Backbone, preset: str) -> None:
    config = get_preset(preset)
    features, labels = clusters(backbone.dim)
    shots = draw_shots(features, labels, NAMES, backbone.dim, None, 0.0, 0)
    for kind, settings in (("positive", config.positive), ("negative", config.negative)):
        settings = replace(
            settings, batch_size=len(labels), epochs=1, updates=None
        )  # one batch, so that its order does not matter
        tau = settings.relative_temperature * backbone.temperature
        phase = Phase(kind, settings, config, NAMES, backbone, shots)
        before = [learner.contexts.detach().clone() for learner in phase.learners]
        loss, _ = phase.step(0)
        found = phase.learners[0].contexts.grad
        assert found is not None

        contexts = torch.cat(before).requires_grad_()  # (K, C or 1, L, W)
        sets = [
            literal.text_features(backbone, c if settings.class_specific else c[0], NAMES).double() for c in contexts
        ]
        images, targets = shots.features.double().to(backbone.device), shots.labels
        if kind == "positive":
            wanted = literal.positive_loss(images, targets, sets[0], tau, config.loss_on)
        elif config.sets_in_turn:
            wanted = literal.negative_loss(images, targets, sets[:1], tau, config.loss_on)
            own, others = sets[0], [text.detach() for text in sets[1:]]
            cosines = [own[c] @ other[c] for c in range(len(NAMES)) for other in others]
            wanted = wanted + config.reg_weight * sum(cosines) / len(cosines)
        else:
            wanted = literal.negative_loss(images, targets, sets, tau, config.loss_on)
            wanted = wanted + config.reg_weight * literal.orthogonality(sets, config.reg)
        wanted.backward()
        assert loss.item() == pytest.approx(wanted.item(), rel=1e-4)
        expected = contexts.grad[: len(found)]
        assert float((found - expected).norm() / expected.norm()) < 1e-4


def test_a_cocoop_step_equals_the_equations(tiny_backbone: Backbone) -> None:
    config = small("paper", "cocoop")
    features, labels = clusters(tiny_backbone.dim, 1)
    shots = draw_shots(features, labels, NAMES, tiny_backbone.dim, None, 0.0, 0)
    settings = replace(config.negative, batch_size=len(labels))
    tau = settings.relative_temperature * tiny_backbone.temperature
    phase = Phase("negative", settings, config, NAMES, tiny_backbone, shots)
    learner = phase.learners[0]
    images = shots.features.to(tiny_backbone.device)
    tokens = learner.meta_tokens(images).detach()  # (B, K, W)
    contexts = learner.contexts.detach().clone().requires_grad_()
    wanted = torch.zeros((), dtype=torch.double, device=images.device)
    for b, y in enumerate(shots.labels):
        sets = [literal.text_features(tiny_backbone, contexts[k] + tokens[b, k], NAMES).double() for k in range(3)]
        image, target = images[b : b + 1].double(), y[None]
        wanted = wanted + literal.negative_loss(image, target, sets, tau, "logits") / len(labels)
        wanted = wanted + config.reg_weight * literal.orthogonality(sets, "sum_abs") / len(labels)
    wanted.backward()
    loss, _ = phase.step(0)
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-4)
    assert float((learner.contexts.grad - contexts.grad).norm() / contexts.grad.norm()) < 1e-4
    assert all(float(parameter.grad.abs().sum()) > 0 for parameter in learner.parameters())


def test_sets_in_turn_change_one_at_a_time(tiny_backbone: Backbone) -> None:
    config = small("reference", calibration_share=0.0)
    shots = draw_shots(*clusters(tiny_backbone.dim), NAMES, tiny_backbone.dim, None, 0.0, 0)
    phase = Phase("negative", config.negative, config, NAMES, tiny_backbone, shots)
    for step in range(6 * phase.batches):
        before = [learner.contexts.detach().clone() for learner in phase.learners]
        phase.step(step)
        moved = [not torch.equal(a, b.contexts) for a, b in zip(before, phase.learners, strict=True)]
        assert moved == [k == step // phase.batches % 3 for k in range(3)]


def test_training_learns_to_say_no(tiny_backbone: Backbone) -> None:
    losses: dict[str, list[float]] = {"positive": [], "negative": []}
    features, labels = clusters(tiny_backbone.dim, 20)
    config = small(epochs=6)
    detector = train(features, labels, NAMES, tiny_backbone, config, callback=lambda p: losses[p.phase].append(p.loss))
    for curve in losses.values():
        assert np.mean(curve[-5:]) < 0.6 * np.mean(curve[:3])
    unseen, truth = clusters(tiny_backbone.dim, 20, seed=5)
    positive, negative = detector.cosines(unseen)
    assert (positive.argmax(dim=-1).numpy() == truth).mean() > 0.8
    assert (negative.mean(dim=1).argmin(dim=-1).numpy() == truth).mean() > 0.8  # the own "no" matches least
    assert detector.calibration is not None and len(detector.calibration) == 12


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("row", ABLATIONS)
def test_every_row_of_tables_4_and_5_trains_and_scores(tiny_backbone: Backbone, row: str, method: str) -> None:
    features, labels = clusters(tiny_backbone.dim, 3)
    config = ablate(small(method=method, epochs=1), row)
    detector = train(features, labels, NAMES, tiny_backbone, config)
    scores = detector.score_features(features)
    assert scores.shape == (9,) and bool(scores.isfinite().all())
    assert len(detector.negative) == config.negative.sets
    assert detector.score_name == {"no-positive": "negatives-only", "no-negative": "mcm"}.get(row, config.score)
    if row == "no-positive":
        torch.testing.assert_close(detector.positive, Detector.zero_shot(tiny_backbone, NAMES).positive)


# -- detectors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_trained_detector_scores_the_same_after_saving(tiny_backbone: Backbone, tmp_path: Path, method: str) -> None:
    features, labels = clusters(tiny_backbone.dim, 6)
    detector = train(features, labels, NAMES, tiny_backbone, small(method=method, epochs=1))
    detector.save(tmp_path / "d.safetensors")
    again = Detector.load(tmp_path / "d.safetensors", tiny_backbone)
    assert type(again.prompts) is (ConditionalPrompts if method == "cocoop" else FixedPrompts)
    assert torch.equal(again.score_features(features), detector.score_features(features))
    assert again.threshold(0.5) == detector.threshold(0.5)
    assert TrainConfig.from_dict(again.config) == small(method=method, epochs=1)
    assert len(again.with_score("mcm").predict_features(features)) == len(features)


def test_prompts_of_a_conditional_detector_follow_the_image(tiny_backbone: Backbone) -> None:
    features, labels = clusters(tiny_backbone.dim, 4)
    detector = train(features, labels, NAMES, tiny_backbone, small(method="cocoop", epochs=1))
    assert isinstance(detector.prompts, ConditionalPrompts)
    positive, negative = detector.text_features(features[:2])
    assert positive.shape == (2, 3, tiny_backbone.dim) and negative.shape == (2, 3, 3, tiny_backbone.dim)
    assert not torch.allclose(positive[0], positive[1])
    alone = torch.cat([detector.score_features(x[None]) for x in features])
    torch.testing.assert_close(alone, detector.score_features(features))
    assert detector.score_features(features[:0]).shape == (0,)


# -- bad input --------------------------------------------------------------------------------------------------------


def broken_case(case: str, features: torch.Tensor, labels: np.ndarray) -> tuple[torch.Tensor, np.ndarray, list[str]]:
    names = list(NAMES)
    if case == "one class":
        return features[labels == 0], labels[labels == 0], names[:1]
    if case == "empty class":
        return features[labels != 1], labels[labels != 1], names
    if case == "duplicate":
        names[2] = "Cat"
    if case == "label too large":
        labels = labels + 1
    if case == "label negative":
        labels = labels - 1
    if case == "too few labels":
        labels = labels[:-1]
    if case == "float labels":
        labels = labels.astype(float)
    if case == "NaN":
        features = features.clone()
        features[3, 1] = float("nan")
    if case == "zero":
        features = features * (torch.arange(len(features)) != 2)[:, None]
    if case == "other size":
        features = features[:, :-1]
    if case == "100 words":
        names[1] = " ".join(["zebra"] * 100)
    return features, labels, names


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("empty class", "great white shark"),
        ("duplicate", "twice"),
        ("label too large", "label 3 stands for no class"),
        ("label negative", "label -1"),
        ("too few labels", "one label"),
        ("float labels", "whole numbers"),
        ("NaN", "features of 1 of 30"),
        ("zero", "all zero"),
        ("other size", r"\(N, 64\)"),
        ("100 words", "zebra.*too long"),
    ],
)
def test_bad_input_is_named_and_leaves_the_checkpoint_alone(
    tiny_backbone: Backbone, tmp_path: Path, case: str, message: str
) -> None:
    (tmp_path / "training.safetensors").write_bytes(b"trained before")
    features, labels, names = broken_case(case, *clusters(tiny_backbone.dim))
    with pytest.raises(UserError, match=message):
        train(features, labels, names, tiny_backbone, small(), checkpoint_dir=tmp_path)
    assert (tmp_path / "training.safetensors").read_bytes() == b"trained before"


def test_one_image_per_class_trains_without_calibration(
    tiny_backbone: Backbone, caplog: pytest.LogCaptureFixture
) -> None:
    detector = train(*clusters(tiny_backbone.dim, 1), NAMES, tiny_backbone, small(epochs=1))
    assert detector.calibration is None and "not be calibrated" in caplog.text
    assert detector.metrics["train_images"] == 3


def test_a_run_that_diverges_says_so(tiny_backbone: Backbone) -> None:
    config = small()
    config = replace(config, positive=replace(config.positive, optimizer="sgd", lr=1e38))
    with pytest.raises(UserError, match="learning rate"):
        train(*clusters(tiny_backbone.dim, 4), NAMES, tiny_backbone, config)
