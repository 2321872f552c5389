"""Safetensors files written whole or not at all: what is there already survives a kill and a full disk."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from safetensors.torch import save
from torch import Tensor


def write_safetensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Replaces `path`: a temporary file `.NAME.*` beside it, synced, renamed, and the folder synced.

    Args:
        tensors: by name, any shapes and devices.
        metadata: the file's header entries.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    # Copies, as safetensors refuses tensors that share their memory.
    data = save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, metadata)
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
