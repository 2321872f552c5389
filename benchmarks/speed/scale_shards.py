"""What a training step over 1,000 classes takes in one process, and with the classes divided over two.

    python -m benchmarks.speed.scale_shards

Both processes are on this machine, a thread each and gloo between them, so that what is compared is the memory of each
and the gradients. The text tower is the embedded checkpoint's; K = 3, all classes at once, no chunks.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import socket
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.harness.report import environment, markdown_table
from benchmarks.speed.training_speed import class_names
from lsn_core import get_preset, load_backbone
from lsn_core.training.phase import Phase
from lsn_core.training.shards import open_shards
from lsn_core.training.shots import Shots

_PROCESSES = multiprocessing.get_context("spawn")
PATIENCE = 600.0


def section(classes: int = 1000) -> dict[str, Any]:
    """Takes a step of negative prompts in one process, then in two.

    Returns:
        For "one" and "two": `step_s`, and `peak_gib` of the largest process beyond what it had with the model loaded.
        `gradient_difference`: of the gradients of all classes, relative to their norm; `classes`.
    """
    found: dict[str, Any] = {"classes": classes}
    gradients = {}
    for name, world in (("one", 1), ("two", 2)):
        with TemporaryDirectory() as folder:
            ranks = _run(world, classes, Path(folder))
        found[name] = {
            "step_s": round(max(rank["step_s"] for rank in ranks), 2),
            "peak_gib": round(max(rank["peak_gib"] for rank in ranks), 2),
        }
        gradients[name] = torch.cat([rank["gradient"] for rank in ranks], dim=1)
    difference = (gradients["one"] - gradients["two"]).norm() / gradients["one"].norm()
    return found | {"gradient_difference": float(difference)}


def table(results: dict[str, Any]) -> str:
    """The results of `section` as Markdown."""
    rows = [
        [called, f"{results[name]['step_s']:.1f}", f"{results[name]['peak_gib']:.2f}"]
        for name, called in (("one", "one process"), ("two", "two processes, half of the classes each"))
    ]
    header = [f"{results['classes']:,} classes, K = 3", "seconds a step", "most memory of a process, GiB"]
    difference = results["gradient_difference"]
    return f"{markdown_table(header, rows)}\n\nGradients differ by {difference:.0e} of their norm."


def _run(world: int, classes: int, folder: Path) -> list[dict[str, Any]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = [_PROCESSES.Process(target=_rank, args=(rank, world, port, classes, folder)) for rank in range(world)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE)
    if any(process.exitcode for process in processes):
        raise RuntimeError(f"a process ended with {[process.exitcode for process in processes]}")
    return [torch.load(folder / f"{rank}.pt") for rank in range(world)]


def _rank(rank: int, world: int, port: int, classes: int, folder: Path) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    with open_shards("cpu") as (shards, device):
        backbone = load_backbone("embedded", device)
        config = get_preset("fast", memory_gib=64.0)
        names, shots = _names(classes), _shots(classes, backbone.dim)
        phase = Phase("negative", config.negative, config, names, backbone, shots, None, shards)
        before = _peak()
        begun = time.perf_counter()
        phase.step(0)
        seconds = time.perf_counter() - begun
        gradient = phase.learners[0].contexts.grad
        assert isinstance(gradient, Tensor)
        told = {"step_s": seconds, "peak_gib": _peak() - before, "gradient": gradient}
        torch.save(told, folder / f"{rank}.pt")


def _names(classes: int) -> list[str]:
    return [f"{name} {number}" for number, name in enumerate(class_names(classes))]


def _shots(classes: int, dim: int) -> Shots:
    generator = torch.Generator().manual_seed(0)
    features = F.normalize(torch.randn(256, dim, generator=generator), dim=-1)
    labels = torch.randint(classes, (256,), generator=generator)
    return Shots(features, labels, features[:0], labels[:0])


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # kibibytes on Linux


def main() -> None:
    """Measures and shows it."""
    results = section()
    print(results | environment(0), table(results), sep="\n\n")


if __name__ == "__main__":
    main()
