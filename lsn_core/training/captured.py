"""A training step's losses and gradients as a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

_WARM_UP = 3

Run = Callable[..., tuple[Tensor, Tensor]]


class CapturedStep:
    """Launches the kernels of a step at once rather than one by one, some thousand of them.

    The same kernels on the same numbers, so that results do not change. What the step allocates stays with the graph
    until it is dropped.

    Args:
        run: computes a step from tensors on a GPU, leaves gradients in the parameters and returns two scalars; neither
            waits for the GPU nor takes anything from the host.
        parameters: those that get gradients.
        inputs: of any step; None where it takes none. Later ones must have the same shapes.
    """

    def __init__(self, run: Run, parameters: Sequence[Tensor], *inputs: Tensor | None) -> None:
        self._inputs = [None if tensor is None else tensor.clone() for tensor in inputs]
        self._parameters = list(parameters)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                self._forget()
                run(*self._inputs)
        torch.cuda.current_stream().wait_stream(stream)
        self._forget()
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._outputs = run(*self._inputs)
        self._gradients = [parameter.grad for parameter in self._parameters]

    def __call__(self, *inputs: Tensor | None) -> tuple[Tensor, Tensor]:
        """Loss and accuracy of a step, scalars; the gradients are in the parameters."""
        for kept, given in zip(self._inputs, inputs, strict=True):
            if kept is not None and given is not None:
                kept.copy_(given)
        self._graph.replay()
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient
        first, second = self._outputs
        return first.clone(), second.clone()

    def _forget(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None
