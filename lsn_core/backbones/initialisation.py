"""A model whose weights come from a file is built without the random ones that the file would overwrite."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.nn import init
from torch.overrides import TorchFunctionMode

# Zeros, as `trunc_normal_` draws with them until all numbers are within its bounds.
_DRAWING = {torch.Tensor.normal_, torch.Tensor.uniform_}
_RANDOM = {
    torch.Tensor.erfinv_,
    # What these do inside is not seen, as they are functions of torch that a mode runs as a whole.
    *(init.normal_, init.uniform_, init.trunc_normal_, init.kaiming_uniform_, init.kaiming_normal_),
    *(init.xavier_uniform_, init.xavier_normal_),
}


class NoRandomWeights(TorchFunctionMode):
    """While it is active, in this thread, tensors to be filled with random numbers are left as they are, or zero.

    Only for models all of whose weights are loaded afterwards: open_clip does so strictly, and a weight that its file
    lacks is an error there.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Runs every function but those."""
        named = dict(kwargs or {})
        if func in _DRAWING:
            return args[0].zero_()
        if func in _RANDOM:
            return args[0] if args else named["tensor"]
        return func(*args, **named)
