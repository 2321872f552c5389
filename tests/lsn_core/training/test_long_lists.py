"""What makes trainings over many classes cheaper: some classes a step, and half the bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_training import NAMES, clusters, small

from lsn_core import UserError, train
from lsn_core.backbones.backbone import Backbone
from lsn_core.training.loop import TrainingStopped, has_bf16
from lsn_core.training.phase import Phase
from lsn_core.training.shots import draw_shots

pytestmark = pytest.mark.usefixtures("one_thread")


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
