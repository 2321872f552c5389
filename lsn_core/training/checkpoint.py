"""Checkpoints of a training run: one safetensors file, written whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from lsn_core.atomic import write_safetensors
from lsn_core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

CHECKPOINT_FILE = "training.safetensors"
SCHEMA = 1


def write_checkpoint(folder: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Replaces the folder's checkpoint, whole or not at all.

    Args:
        tensors: by name, any shapes.
        state: JSON values.
    """
    header = {"lsn-training": json.dumps({"schema": SCHEMA, **state})}
    write_safetensors(folder / CHECKPOINT_FILE, tensors, header)


def read_checkpoint(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The folder's checkpoint, or None without one; leftovers of a killed write are removed.

    Raises:
        UserError: the file is not a checkpoint of this schema, or is damaged.
    """
    for leftover in folder.glob(f".{CHECKPOINT_FILE}.*"):
        leftover.unlink(missing_ok=True)
    path = folder / CHECKPOINT_FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            state = json.loads((file.metadata() or {})["lsn-training"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise UserError(
            f"The training checkpoint {path.name} is damaged ({error}). Delete it, or train without resuming."
        ) from error
    if not isinstance(state, dict) or state.get("schema") != SCHEMA:
        raise UserError(f"The training checkpoint {path.name} is of another version. Delete it and train again.")
    return tensors, state
