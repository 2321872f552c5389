"""How many workers a cluster has room for, and what each of them takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lsn_core.errors import UserError

_MOST_CPUS = 8  # of one worker: more help one image tower little


@dataclass(frozen=True)
class Room:
    """Equal workers.

    Attributes:
        workers: how many.
        cpus, gpus: what each takes of its machine.
    """

    workers: int
    cpus: int
    gpus: int = 0


def find_room(nodes: Sequence[Mapping[str, Any]], device: str = "auto", workers: int | None = None) -> Room:
    """One worker a GPU where the cluster has any, else one for each 8 CPUs or smaller machine.

    Args:
        nodes: what `ray.nodes()` says.
        device: auto, cpu or cuda.
        workers: how many are wanted; None for as many as there is room for.

    Raises:
        UserError: there is no room for so many, or no GPU where one is asked for.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UserError(f"The device {device!r} cannot be asked of a cluster. Use auto, cpu or cuda.")
    if workers is not None and workers < 1:
        raise UserError(f"The number of workers must be at least 1, not {workers}.")
    sizes = [(int(has.get("CPU", 0)), int(has.get("GPU", 0))) for has in _resources(nodes)]
    gpus = sum(gpu for _, gpu in sizes)
    if device == "cuda" and not gpus:
        raise UserError("The Ray cluster has no GPU. Use --device cpu, or a cluster that has.")
    if gpus and device != "cpu":
        if workers is not None and workers > gpus:
            raise UserError(f"The Ray cluster has {gpus} GPUs, and each worker takes one: {workers} are too many.")
        each = min(cpu // gpu for cpu, gpu in sizes if gpu)
        return Room(workers or gpus, min(_MOST_CPUS, each), 1)
    cpus = [cpu for cpu, _ in sizes if cpu]
    if not cpus or (workers is not None and workers > sum(cpus)):
        raise UserError(f"The Ray cluster has {sum(cpus)} CPUs, too few for {workers or 1} workers. Ask for fewer.")
    if workers is None:
        each = min(_MOST_CPUS, *cpus)
        return Room(sum(cpu // each for cpu in cpus), each)
    each = next(n for n in range(_MOST_CPUS, 0, -1) if n == 1 or sum(cpu // n for cpu in cpus) >= workers)
    return Room(workers, each)


def _resources(nodes: Sequence[Mapping[str, Any]]) -> list[Mapping[str, float]]:
    return [node["Resources"] for node in nodes if node["Alive"]]
