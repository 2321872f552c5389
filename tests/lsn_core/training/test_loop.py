"""Training: equal to the equations step by step, resumable to the bit, and clear about bad input."""

from __future__ import annotations

import os
import random
import signal
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from reference import lsn as literal
from safetensors.torch import load_file

from lsn_core import Detector, TrainConfig, UserError, get_preset, train
from lsn_core.backbones.backbone import Backbone
from lsn_core.detector.prompts import ConditionalPrompts, FixedPrompts
from lsn_core.shipped import EMBEDDED_DIR
from lsn_core.training.config import METHODS
from lsn_core.training.loop import Progress, TrainingStopped, has_bf16
from lsn_core.training.phase import Phase
from lsn_core.training.presets import ABLATIONS, PRESETS, ablate
from lsn_core.training.shots import draw_shots

NAMES = ["cat", "great white shark", "hen"]
pytestmark = pytest.mark.usefixtures("one_thread")


def clusters(dim: int, per_class: int = 10, seed: int = 0) -> tuple[torch.Tensor, np.ndarray]:
    """Image features in one cloud for each class."""
    generator = torch.Generator().manual_seed(seed)
    middles = torch.randn(len(NAMES), dim, generator=torch.Generator().manual_seed(77))
    labels = np.arange(len(NAMES) * per_class) % len(NAMES)
    noise = torch.randn(len(labels), dim, generator=generator)
    return F.normalize(middles[labels] + 0.7 * noise, dim=-1), labels


def small(preset: str = "fast", method: str = "coop", epochs: int = 2, **changes: object) -> TrainConfig:
    config = get_preset(preset, method)
    schedule = {"context_length": 3, "epochs": epochs, "updates": None}
    positive = replace(config.positive, batch_size=min(4, config.positive.batch_size), **schedule)
    negative = replace(config.negative, batch_size=min(4, config.negative.batch_size), **schedule)
    return replace(config, positive=positive, negative=negative, choose_score=False, **changes)


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


# -- resuming ---------------------------------------------------------------------------------------------------------


def run_until_killed(arguments: tuple, folder: Path, kill_after: int, delay: float) -> tuple[int, int]:
    """Trains in a process of its own that gets SIGKILL `delay` seconds after so many steps; 0 lets it finish.

    Returns:
        Its exit status, and the first step it did.
    """
    steps = folder / "steps.txt"
    steps.unlink(missing_ok=True)
    child = os.fork()
    if not child:  # a fork has torch loaded already: what takes time in a new interpreter
        done = 0

        def report(progress: Progress) -> None:
            nonlocal done
            done += 1
            with open(steps, "a") as file:
                file.write(f"{progress.step}\n")
            if done == kill_after:  # strikes in one of the next steps, or while a checkpoint is being written
                threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()

        status = 1
        try:
            detector = train(*arguments, callback=report, checkpoint_dir=folder, checkpoint_seconds=0)
            detector.save(folder / "broken.safetensors")
            status = 0
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status, int(steps.read_text().split()[0])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(("preset", "method"), [("paper", "coop"), ("reference", "coop"), ("fast", "cocoop")])
def test_killed_at_random_steps_it_ends_with_the_same_bits(
    tiny_backbone: Backbone, tmp_path: Path, preset: str, method: str
) -> None:
    if tiny_backbone.device.type == "cuda":
        pytest.skip("a process that uses a GPU cannot be forked, and its sums promise no bits")
    arguments = (*clusters(tiny_backbone.dim, 6), NAMES, tiny_backbone, small(preset, method, epochs=5))
    train(*arguments).save(tmp_path / "straight.safetensors")
    rng = random.Random(preset)
    begun_at = [0]
    for _ in range(2):
        status, first = run_until_killed(arguments, tmp_path, rng.randint(2, 6), rng.uniform(0.0, 0.005))
        assert status == -signal.SIGKILL and not (tmp_path / "broken.safetensors").exists()
        assert first > begun_at[-1]  # it went on, rather than begin anew
        begun_at.append(first)
    status, first = run_until_killed(arguments, tmp_path, 0, 0.0)
    assert status == 0 and first > begun_at[-1]
    straight, broken = (load_file(tmp_path / f"{name}.safetensors") for name in ("straight", "broken"))
    assert straight.keys() == broken.keys() and all(torch.equal(straight[name], broken[name]) for name in straight)


def test_a_stopped_run_goes_on_and_a_finished_one_comes_back_at_once(tiny_backbone: Backbone, tmp_path: Path) -> None:
    features, labels = clusters(tiny_backbone.dim, 6)
    seen: list[Progress] = []
    arguments = (features, labels, NAMES, tiny_backbone, small())
    with pytest.raises(TrainingStopped):
        train(*arguments, checkpoint_dir=tmp_path, callback=lambda p: seen.append(p) or p.step == 3)
    with pytest.raises(KeyboardInterrupt):

        def interrupt(progress: Progress) -> None:
            seen.append(progress)
            raise KeyboardInterrupt

        train(*arguments, checkpoint_dir=tmp_path, callback=interrupt)
    detector = train(*arguments, checkpoint_dir=tmp_path, callback=lambda p: seen.append(p))
    assert [p.step for p in seen] == list(range(1, seen[0].total + 1))  # no step was done twice or left out
    assert all(0 <= p.accuracy <= 1 for p in seen) and seen[-1].seconds >= seen[0].seconds > 0
    again = train(*arguments, checkpoint_dir=tmp_path, callback=lambda p: pytest.fail("nothing is left to do"))
    assert torch.equal(again.negative, detector.negative)
    assert torch.equal(train(*arguments).negative, detector.negative)


def test_a_checkpoint_of_another_run_is_neither_used_nor_lost(tiny_backbone: Backbone, tmp_path: Path) -> None:
    features, labels = clusters(tiny_backbone.dim, 4)
    train(features, labels, NAMES, tiny_backbone, small(epochs=1), checkpoint_dir=tmp_path)
    (file,) = tmp_path.iterdir()
    before = file.read_bytes()
    for arguments in (
        (features, labels, NAMES, tiny_backbone, small(epochs=1, seed=1)),
        (features.flip(0), labels, NAMES, tiny_backbone, small(epochs=1)),
        (features, labels, NAMES[::-1], tiny_backbone, small(epochs=1)),
    ):
        with pytest.raises(UserError, match="on other images"):
            train(*arguments, checkpoint_dir=tmp_path)
        assert file.read_bytes() == before
    train(features, labels, NAMES, tiny_backbone, small(epochs=1, seed=1), checkpoint_dir=tmp_path, resume=False)
    file.write_bytes(before[: len(before) // 2])
    with pytest.raises(UserError, match="damaged"):
        train(features, labels, NAMES, tiny_backbone, small(epochs=1), checkpoint_dir=tmp_path)


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


# -- long lists of classes, and half the bits --------------------------------------------------------------------------


@pytest.mark.parametrize(("reg_weight", "kind"), [(0.0, "positive"), (0.0, "negative"), (0.1, "negative")])
def test_a_step_over_some_classes_is_that_of_a_run_with_those_alone(
    tiny_backbone: Backbone, reg_weight: float, kind: str
) -> None:
    features, labels = clusters(tiny_backbone.dim, 2)
    shots = draw_shots(features[labels == 2], labels[labels == 2] - 2, NAMES[2:], tiny_backbone.dim, None, 0.0, 0)
    shots = replace(shots, labels=shots.labels + 2)  # of one class, beside which another is drawn
    config = small(classes_per_step=2, reg_weight=reg_weight)
    phase = Phase(kind, getattr(config, kind), config, NAMES, tiny_backbone, shots)
    drawn = phase._classes(shots.labels, 0, 0)
    assert drawn is not None and len(drawn) == 2 and 2 in drawn
    # Eq. 7 is a sum: that over two classes stands for that over three.
    config = small(reg_weight=1.5 * reg_weight)
    alone = Phase(kind, getattr(config, kind), config, [NAMES[i] for i in drawn], tiny_backbone, shots)
    alone.labels = torch.searchsorted(drawn, alone.labels)
    contexts = phase.learners[0].contexts
    specific = contexts.shape[1] > 1
    alone.learners[0].contexts.data = contexts.detach()[:, drawn] if specific else contexts.detach().clone()
    torch.testing.assert_close(phase.step(0), alone.step(0), rtol=1e-4, atol=1e-5)
    found, wanted = contexts.grad, alone.learners[0].contexts.grad
    torch.testing.assert_close(found[:, drawn] if specific else found, wanted, rtol=1e-3, atol=1e-6)
    if specific:
        assert float(found[:, [i for i in range(3) if i not in drawn]].abs().max()) == 0.0


def test_a_run_over_some_classes_at_a_time_goes_on_to_the_same_bits(tiny_backbone: Backbone, tmp_path: Path) -> None:
    arguments = (*clusters(tiny_backbone.dim, 6), NAMES, tiny_backbone, small(classes_per_step=2))
    straight = train(*arguments)
    with pytest.raises(TrainingStopped):
        train(*arguments, checkpoint_dir=tmp_path, callback=lambda p: p.step == 4)
    assert torch.equal(train(*arguments, checkpoint_dir=tmp_path).negative, straight.negative)
    with pytest.raises(UserError, match="holds a run on other images"):
        train(*arguments[:-1], small(), checkpoint_dir=tmp_path)
    with pytest.raises(UserError, match="classes_per_step must be 2 or more"):
        small(classes_per_step=1)


def test_half_the_bits_learn_as_much_where_the_cpu_has_them(
    tiny_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = (*clusters(tiny_backbone.dim, 20), NAMES, tiny_backbone)
    if has_bf16(torch.device("cpu")):
        losses: dict[str, list[float]] = {"fp32": [], "bf16": []}
        for precision, found in losses.items():
            train(
                *arguments, small(precision=precision, epochs=4), callback=lambda p, found=found: found.append(p.loss)
            )
        assert losses["fp32"] != losses["bf16"]
        assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.1, abs=0.1)
    monkeypatch.setattr("lsn_core.training.loop.has_bf16", lambda device: False)
    with pytest.raises(UserError, match="AVX-512 BF16 or AMX"):
        train(*arguments, small(precision="bf16"))
