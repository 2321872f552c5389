"""Files written whole or not at all: what is there already survives a kill and a full disk."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def write_safetensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Replaces `path`, as `write_bytes` does.

    Args:
        tensors: by name, any shapes and devices.
        metadata: the file's header entries.
    """
    from safetensors.torch import save  # with torch, which those who write texts do without

    # Copies, as safetensors refuses tensors that share their memory.
    whole = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    write_bytes(path, save(whole, metadata))


def write_bytes(path: Path, data: bytes) -> None:
    """Replaces `path`: a temporary file `.NAME.*` beside it, synced, renamed, and the folder synced."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
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
