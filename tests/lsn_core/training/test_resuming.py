"""A training that is stopped or killed goes on where it was, to the same bits."""

from __future__ import annotations

import os
import random
import signal
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_training import NAMES, clusters, small

from lsn_core import UserError, train
from lsn_core.backbones.backbone import Backbone
from lsn_core.training.loop import Progress, TrainingStopped

pytestmark = pytest.mark.usefixtures("one_thread")


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
