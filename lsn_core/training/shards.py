"""Class lists that outgrow one device: classes divided over the processes of a torch.distributed group.

Each process learns the prompts of its own classes and runs the text tower on them alone. What the loss needs of the
others is their text features, (K, C, D) numbers that are gathered each step; the gradient of a process's own prompts
follows from its own features, so that all gradients equal those of one process. `torchrun` starts the processes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from lsn_core.errors import UserError


@dataclass(frozen=True)
class Shards:
    """This process's place among those that divide the classes.

    Attributes:
        rank: its number, from 0.
        world: how many there are; 1 for a process that learns all classes.
    """

    rank: int = 0
    world: int = 1

    @classmethod
    def of_group(cls) -> Shards:
        """Of the default process group of torch.distributed, which has to be there."""
        return cls(dist.get_rank(), dist.get_world_size())

    @property
    def alone(self) -> bool:
        """Whether there is nobody to share with."""
        return self.world == 1

    def bounds(self, classes: int) -> list[int]:
        """Where each process's classes begin, and where the last one's end: R + 1 numbers.

        Raises:
            UserError: there are fewer classes than processes.
        """
        if classes < self.world:
            raise UserError(f"{classes} classes cannot be divided over {self.world} processes. Start fewer.")
        return [classes * rank // self.world for rank in range(self.world + 1)]

    def own(self, classes: int) -> slice:
        """The classes that this process learns."""
        bounds = self.bounds(classes)
        return slice(bounds[self.rank], bounds[self.rank + 1])

    def gather(self, part: Tensor, counts: list[int], dim: int) -> Tensor:
        """Everybody's part, one behind the other; only this process's own carries gradients.

        Args:
            part: with counts[rank] entries along `dim`, like everybody's in all other dimensions.
            counts: entries of each process.
        """
        if self.alone:
            return part
        widest = max(counts)
        sent = part.detach().movedim(dim, 0).contiguous()
        padded = sent.new_zeros(widest, *sent.shape[1:])
        padded[: len(sent)] = sent
        received = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(received, padded)
        parts = [other[:count].movedim(0, dim) for other, count in zip(received, counts, strict=True)]
        parts[self.rank] = part
        return torch.cat(parts, dim=dim)

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Adds up the gradients of parameters that all processes have, such as a context that all classes share."""
        for parameter in parameters if not self.alone else ():
            if parameter.grad is not None:
                dist.all_reduce(parameter.grad)

    def first_says(self, *values: bool) -> tuple[bool, ...]:
        """What the first process has decided, for all."""
        if self.alone:
            return values
        said: list[Any] = [values]
        dist.broadcast_object_list(said)
        return tuple(said[0])

    def collect(self, value: Any) -> list[Any]:
        """Everybody's value, in the order of the processes."""
        if self.alone:
            return [value]
        found: list[Any] = [None] * self.world
        dist.all_gather_object(found, value)
        return found


@contextmanager
def open_shards(device: str) -> Iterator[tuple[Shards, str]]:
    """This process among those that torchrun has started, or alone without torchrun; and the device that it gets.

    Args:
        device: "cuda" becomes this process's own GPU.

    Raises:
        UserError: there are more processes than GPUs.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "LOCAL_RANK" not in os.environ:
        yield Shards(), device
        return
    if device == "cuda":
        local = int(os.environ["LOCAL_RANK"])
        if local >= torch.cuda.device_count():
            raise UserError(f"Process {local} finds no GPU of its own. Start {torch.cuda.device_count()} a node.")
        device = f"cuda:{local}"
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield Shards.of_group(), device
    finally:
        dist.destroy_process_group()
