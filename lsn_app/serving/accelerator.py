"""Where model work is done: on this machine's device, or on a GPU that Hugging Face's ZeroGPU gives to single calls.

On ZeroGPU a call travels to a forked process that has the GPU, and its result travels back, both by pickle. This
process never has it: its own copies of the models stay on the CPU, where whatever is not sent away still works.
"""

from __future__ import annotations

import copyreg
import logging
import pickle
from collections.abc import Callable
from functools import lru_cache
from typing import Any, ParamSpec, TypeVar
from weakref import WeakValueDictionary

import lsn_core
from lsn_core import Backbone, UserError
from lsn_core.backbones.loading import resolve_device
from lsn_core.jobs.worker.attempt import Attempt

try:
    import spaces  # on Hugging Face Spaces only; it must be there before anything uses CUDA
    from spaces.config import Config
except ImportError:
    ZERO_GPU = False
else:
    ZERO_GPU = bool(Config.zero_gpu)
"""Whether there is a GPU only within the calls that go through here."""

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger(__name__)

_SECONDS = 30.0
_MARGIN_SECONDS = 20.0  # for the model to be loaded before, and a checkpoint to be written after
_loaded: WeakValueDictionary[str, Backbone] = WeakValueDictionary()


def load_backbone(name: str) -> Backbone:
    """`lsn_core.load_backbone`, for the device that this process has."""
    backbone = lsn_core.load_backbone(name, "cpu" if ZERO_GPU else "auto")
    _loaded[name] = backbone
    return backbone


def run(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Calls a function that takes seconds where the accelerator is; where none is to be had, on the CPU.

    Args:
        function: of a module, or a method of a backbone.
        args, kwargs: what can be pickled; a backbone goes by its name, and is on the GPU at the other end.
    """
    if not ZERO_GPU:
        return function(*args, **kwargs)
    call = pickle.dumps((function, args, kwargs))
    try:
        answer = _call_remote(_SECONDS, call)
    except Exception as refusal:  # an error made for the page: no GPU is free, or the visitor's or the app's time is up
        log.warning("No GPU could be had (%s); the CPU does it.", refusal)
        return function(*args, **kwargs)
    return _unpack(answer)


def run_slice(function: Callable[[Attempt, float], None], attempt: Attempt, seconds: float) -> None:
    """Calls a function that works about so many seconds where the accelerator is. Raises where none is to be had."""
    _unpack(_call_remote(seconds + _MARGIN_SECONDS, pickle.dumps((function, (attempt, seconds), {}))))


def by_name(backbone: Backbone) -> tuple[Callable[[str], Backbone], tuple[str]]:
    """How a backbone is pickled: by its name, to be found again at the other end."""
    return _find, (backbone.name,)


@lru_cache(maxsize=2)
def _find(name: str) -> Backbone:
    known = _loaded.get(name)  # a forked process has what was loaded before
    if known is None:
        return lsn_core.load_backbone(name)
    return Backbone(known.model, name, known.tokenizer, resolve_device(), known.assumed)


def _call(seconds: float, call: bytes) -> bytes:
    # security: these pickles come from our own processes. They are made here, as the package's own way for tensors
    # needs a socket in the temporary folder, whose path may be too long for one.
    function, args, kwargs = pickle.loads(call)
    try:
        return pickle.dumps((function(*args, **kwargs), None))
    except UserError as error:  # others come back as their names alone
        return pickle.dumps((None, error))


def _unpack(answer: bytes) -> Any:
    result, error = pickle.loads(answer)
    if error is not None:
        raise error
    return result


_call_remote = _call
if ZERO_GPU:
    _call_remote = spaces.GPU(_call, duration=lambda seconds, _: round(seconds))
    copyreg.pickle(Backbone, by_name)
