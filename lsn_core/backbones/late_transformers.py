"""open_clip without the transformers library, which it imports at its start and uses only where a model asks for it.

That import takes longer than scoring a photo. open_clip takes what it wants of it from its modules' own names, so that
these can be filled in when the first text tower of the transformers library is built, or the first caption made.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

_LIBRARY = "transformers"
_HUGGING_FACE = ("AutoModel", "AutoTokenizer", "AutoConfig", "PretrainedConfig")
_OUTPUTS = ("BaseModelOutput", "BaseModelOutputWithPooling", "BaseModelOutputWithPoolingAndCrossAttentions")


def import_open_clip() -> None:
    """Imports open_clip; without the transformers library, where nothing has imported either yet."""
    if "open_clip" in sys.modules or _LIBRARY in sys.modules:
        importlib.import_module("open_clip")
        return
    sys.modules[_LIBRARY] = None  # type: ignore[assignment]  # so that the import fails
    try:
        importlib.import_module("open_clip")
    finally:
        del sys.modules[_LIBRARY]
    encoder = importlib.import_module("open_clip.hf_model").HFTextEncoder
    encoder.__init__ = _completing(encoder.__init__, _complete_encoders)
    captioner = importlib.import_module("open_clip.coca_model").CoCa
    captioner.generate = _completing(captioner.generate, _complete_captions)


def _completing(function: Callable[..., Any], complete: Callable[[], None]) -> Callable[..., Any]:
    @wraps(function)
    def call(*values: Any, **named: Any) -> Any:
        complete()
        return function(*values, **named)

    return call


def _complete_encoders() -> None:
    module: Any = importlib.import_module("open_clip.hf_model")
    if module.transformers is not None:
        return
    try:
        library = importlib.import_module(_LIBRARY)
    except ImportError:
        return  # open_clip says what is missing
    outputs = importlib.import_module(f"{_LIBRARY}.modeling_outputs")
    for name in _HUGGING_FACE:
        setattr(module, name, getattr(library, name))
    for name in _OUTPUTS:
        setattr(module, name, getattr(outputs, name))
    module.transformers = library


def _complete_captions() -> None:
    module: Any = importlib.import_module("open_clip.coca_model")
    if module._has_transformers:
        return
    # Its names are those of one version or another: the module is run again, and its names are taken over.
    found = importlib.util.module_from_spec(module.__spec__)
    module.__spec__.loader.exec_module(found)
    own = {name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__}
    vars(module).update({name: value for name, value in vars(found).items() if name not in own and name[:2] != "__"})
