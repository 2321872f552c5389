"""torchvision and timm without torch's compiler, which both import and use only where something is compiled.

With the compiler come sympy, Triton's compiler and torch.distributed: half of the time that it takes to score one
photo. torchvision's `roi_align` takes `is_compile_supported` from `torch._dynamo.utils`; timm's NaFlexViT decorates a
method with `torch.compiler.disable`. Both get something that asks the compiler when it is called.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from importlib.metadata import version
from types import ModuleType
from typing import Any

import torch

from lsn_core.errors import UserError

_COMPILER = "torch._dynamo"
_ASKED = "torch._dynamo.utils"


def import_towers() -> None:
    """Imports torchvision and timm; quickly, where nothing has imported the compiler yet.

    Raises:
        UserError: torchvision was made for another torch.
    """
    if _COMPILER in sys.modules:
        return
    with _stand_in(), _disable_later():
        try:
            importlib.import_module("torchvision")
        except RuntimeError as error:  # "operator torchvision::nms does not exist"
            raise UserError(
                f"torchvision {version('torchvision')} does not fit torch {torch.__version__} ({error}). Install both "
                "from one index: pip install --force-reinstall torch torchvision, with --index-url "
                "https://download.pytorch.org/whl/cpu for a CPU."
            ) from error
        importlib.import_module("timm")


class _StandIn(ModuleType):
    """In the place of the compiler's module; gives way where something else of it is wanted."""

    @staticmethod
    def is_compile_supported(device_type: str) -> bool:
        """What the real function answers."""
        return bool(importlib.import_module(_ASKED).is_compile_supported(device_type))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        _remove(self)
        return getattr(importlib.import_module(_ASKED), name)


@contextmanager
def _stand_in() -> Iterator[None]:
    module = sys.modules[_ASKED] = _StandIn(_ASKED)
    try:
        yield
    finally:
        _remove(module)


def _remove(module: ModuleType) -> None:
    if sys.modules.get(_ASKED) is module:
        del sys.modules[_ASKED]


@contextmanager
def _disable_later() -> Iterator[None]:
    """`torch.compiler.disable` as a decorator that does its work when the function is first called."""
    compiler: Any = torch.compiler
    real = compiler.disable

    def disable(function: Any = None, *args: Any, **options: Any) -> Any:
        if not callable(function):
            return real(function, *args, **options)

        @cache
        def disabled() -> Callable[..., Any]:
            made: Callable[..., Any] = real(function, *args, **options)
            return made

        @wraps(function)
        def call(*values: Any, **named: Any) -> Any:
            return disabled()(*values, **named)

        return call

    compiler.disable = disable
    try:
        yield
    finally:
        compiler.disable = real
