"""Classes divided over two processes: the gradients, prompts, checkpoints and files of one."""

from __future__ import annotations

import multiprocessing
import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from support import REPO, fewer_updates

from lsn_core import UserError, get_preset, train
from lsn_core.backbones.backbone import Backbone
from lsn_core.training.checkpoint import CHECKPOINT_FILE
from lsn_core.training.config import TrainConfig
from lsn_core.training.loop import Progress, TrainingStopped
from lsn_core.training.phase import Phase
from lsn_core.training.shards import Shards, open_shards
from lsn_core.training.shots import Shots, draw_shots

NAMES = ["cat", "great white shark", "hen", "red fox", "dog"]
_PROCESSES = multiprocessing.get_context("spawn")


def make_backbone(dtype: torch.dtype) -> Backbone:
    import open_clip

    torch.manual_seed(0)
    model = open_clip.CLIP(
        embed_dim=32,
        vision_cfg={"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
        text_cfg={"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 2},
    )
    model.visual.preprocess_cfg = {"size": 32, "mode": "RGB", "interpolation": "bicubic", "resize_mode": "shortest"}
    backbone = Backbone(model, "tiny (random weights)", open_clip.get_tokenizer("ViT-B-32"))
    backbone.model.to(dtype)
    return backbone


def drawn(backbone: Backbone) -> Shots:
    generator = torch.Generator().manual_seed(0)
    middles = torch.randn(len(NAMES), 32, generator=generator)
    labels = np.arange(40) % len(NAMES)
    features = F.normalize(middles[labels] + 0.7 * torch.randn(40, 32, generator=generator), dim=-1)
    return draw_shots(features, labels, NAMES, 32, None, 0.25, 0)


def config_of(**changes: Any) -> TrainConfig:
    return replace(fewer_updates(get_preset("fast", changes.pop("method", "coop")), 4, 4), **changes)


def gradients(dtype: torch.dtype, config: TrainConfig, shards: Shards) -> dict[str, torch.Tensor]:
    """Losses and gradients of two steps of each kind, gradients of all classes."""
    backbone = make_backbone(dtype)
    shots = drawn(backbone)
    shots = Shots(shots.features.to(dtype), shots.labels, shots.held_out, shots.held_out_labels)
    found = {}
    for kind, settings in (("positive", config.positive), ("negative", config.negative)):
        phase = Phase(kind, settings, config, NAMES, backbone, shots, shards=shards)
        for learner in phase.learners:
            learner.to(dtype)
        for step in range(2):
            found[f"{kind}.{step}.loss"] = phase.step(step)[0]
            for name, parameter in phase.learners[0].named_parameters():
                whole = phase._whole({name: parameter.grad.detach()})[name]
                found[f"{kind}.{step}.{name}"] = whole.clone()
        assert len(phase.tower.names) == (len(NAMES) if shards.alone else (2, 3)[shards.rank])
    return found


CASES = {
    "class-specific": config_of(),
    "cocoop": config_of(method="cocoop"),
    "drawn classes": config_of(classes_per_step=3),
    "as the authors": config_of(reg="mean_signed", loss_on="probabilities"),
}
CASES["drawn classes"] = replace(
    CASES["drawn classes"],
    positive=replace(CASES["drawn classes"].positive, batch_size=2),
    negative=replace(CASES["drawn classes"].negative, batch_size=2),
)


def _learn(folder: Path, stop_at: int, shards: Shards) -> dict[str, torch.Tensor] | None:
    """A run that stops at a step, or that goes on from where one has stopped."""
    backbone = make_backbone(torch.float32)
    shots = drawn(backbone)

    def stop(progress: Progress) -> bool:
        assert shards.rank == 0, "only the first process is asked"
        return progress.step == stop_at

    try:
        detector = train(
            shots.features,
            shots.labels,
            NAMES,
            backbone,
            config_of(choose_score=False, score_name="lsn"),
            callback=stop,
            checkpoint_dir=folder,
            shards=shards,
        )
    except TrainingStopped:
        return None
    return {"positive": detector.positive, "negative": detector.negative, **detector.contexts}


def _run(rank: int, port: int, folder: Path) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    os.environ["MASTER_PORT"] = str(port)
    torch.set_num_threads(1)
    with open_shards("cpu") as (shards, device):
        assert (shards.rank, shards.world, device) == (rank, 2, "cpu")
        found: dict[str, Any] = {
            f"{name}.{dtype}": gradients(dtype, config, shards)
            for name, config in CASES.items()
            for dtype in (torch.float64, torch.float32)
        }
        (folder / "own").mkdir(exist_ok=True)
        assert _learn(folder / "own", 3, shards) is None
        found["resumed"] = _learn(folder / "own", 0, shards)
        found["from one"] = _learn(folder / "one", 0, shards)
    torch.save(found, folder / f"{rank}.pt")


@pytest.fixture(scope="module")
def of_two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes has found."""
    folder = tmp_path_factory.mktemp("shards")
    (folder / "one").mkdir()
    assert _learn(folder / "one", 3, Shards()) is None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = [_PROCESSES.Process(target=_run, args=(rank, port, folder)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(200)
    assert [process.exitcode for process in processes] == [0, 0]
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["fp64", "fp32"])
@pytest.mark.parametrize("case", CASES)
def test_gradients_equal_those_of_one_process(of_two: list[dict[str, Any]], case: str, dtype: torch.dtype) -> None:
    wanted = gradients(dtype, CASES[case], Shards())
    for found in of_two:
        for name, value in found[f"{case}.{dtype}"].items():
            assert value.dtype == dtype or name.endswith("loss")
            scale = float(wanted[name].norm())
            assert float((value - wanted[name]).norm()) <= (1e-10 if dtype == torch.float64 else 1e-4) * scale, name


@pytest.mark.parametrize("run", ["resumed", "from one"])
def test_a_run_ends_as_in_one_process_though_it_was_stopped(
    of_two: list[dict[str, Any]], run: str, tmp_path: Path
) -> None:
    wanted = _learn(tmp_path, 0, Shards())
    assert wanted is not None and wanted["contexts" if "contexts" in wanted else "negative"].shape
    for found in of_two:
        assert found[run].keys() == wanted.keys()
        for name, value in found[run].items():
            torch.testing.assert_close(value, wanted[name], rtol=1e-3, atol=1e-4)
    checkpoint = load_file(tmp_path / CHECKPOINT_FILE)
    assert checkpoint["negative.0.contexts"].shape[1] == len(NAMES)


def test_no_process_without_a_class() -> None:
    with pytest.raises(UserError, match="2 classes cannot be divided over 3 processes"):
        Shards(0, 3).bounds(2)


def test_the_command_divides_classes_when_torchrun_starts_it(tmp_path: Path, examples: Path) -> None:
    import shutil
    import subprocess
    import sys

    for name in ("dog", "cat", "horse"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for copy in range(4):
            shutil.copy(examples / "dog.jpg", tmp_path / "data" / name / f"{copy}.jpg")
    out = tmp_path / "two.safetensors"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "-m", "lsn_core"]
    command += ["train", str(tmp_path / "data"), "--out", str(out), "--shots", "4", "--device", "cpu", "--json"]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count('"detector"') == 1  # only the first process speaks
    assert load_file(out)["negative"].shape[1] == 3
