"""What a detector file holds, checked before any of it is used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lsn_core.atomic import write_safetensors
from lsn_core.errors import UserError

HEADER = "lsn"
SCHEMA = 2
DTYPES = (torch.float16, torch.float32, torch.float64, torch.int32, torch.int64)
PAPER_UNIT = 0.01  # of the test temperatures, as files of schema 1 have them whatever their backbone


def read_detector_file(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Metadata and tensors of a detector file, with keys and types checked; shapes are the detector's own business.

    Raises:
        UserError: there is no such file, it is something else, damaged or of another schema.
    """
    if not path.is_file():
        raise UserError(f"There is no detector file {path.name}. Check the path, or train one.")
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(HEADER)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path.name} is not a safetensors file or is damaged ({error}). Get it again.") from error
    if header is None:
        raise UserError(f"{path.name} is a safetensors file, but not a detector saved by lsn_core.")
    try:
        metadata = json.loads(header)
        schema = metadata["schema"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:  # a number of 5,000 digits is a ValueError
        raise UserError(f"{path.name} has damaged metadata. Get it again, or train it again.") from error
    if schema == 1:
        metadata["fit"] = {"test_unit": PAPER_UNIT}
    elif schema != SCHEMA:
        raise UserError(f"{path.name} has schema {schema}, and this version reads 1 to {SCHEMA}. Update lsn_core.")
    wanted = {
        "backbone": str,
        "weights_hash": str,
        "class_names": list,
        "score": str,
        "config": dict,
        "metrics": dict,
        "fit": dict,
    }
    wrong = [key for key, kind in wanted.items() if not isinstance(metadata.get(key), kind)]
    config = {} if "config" in wrong else metadata["config"]
    for key, kind in {"method": str, "positive": dict, "negative": dict}.items():
        wrong += [f"config.{key}"] if not isinstance(config.get(key, kind()), kind) else []
    missing = [name for name in ("positive", "negative") if name not in tensors]
    wrong += [name for name, tensor in tensors.items() if not _as_written(name, tensor)]
    if wrong or missing or any(not tensor.isfinite().all() for tensor in tensors.values()):
        raise UserError(f"{path.name} is damaged: {', '.join(wrong + missing) or 'values'} wrong or missing.")
    return metadata, tensors


def _as_written(name: str, tensor: Tensor) -> bool:
    dimensions = {"positive": 2, "negative": 3, "calibration": 1}
    return tensor.dtype in DTYPES and tensor.ndim == dimensions.get(name, tensor.ndim)


def write_detector_file(path: Path, metadata: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Writes one .safetensors file; whole or not at all (temporary file, synced, renamed).

    Args:
        metadata: JSON values; the schema is added.
        tensors: by name, any shapes.

    Raises:
        UserError: the name does not end in .safetensors, or its folder does not exist.
    """
    if path.suffix != ".safetensors":
        raise UserError(f"A detector file must end in .safetensors, and {path.name} does not.")
    if not path.parent.is_dir():
        raise UserError(f"The folder {path.parent} for the detector file does not exist. Create it first.")
    write_safetensors(path, tensors, {HEADER: json.dumps({"schema": SCHEMA, **metadata})})
