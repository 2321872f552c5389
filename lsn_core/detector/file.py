"""What a detector file holds, checked before any of it is used.

security: a file may come from anywhere. Its header is read and bounded first, so that nothing is allocated for what the
file itself does not hold, and only tensors of known names, kinds and numbers of dimensions are read.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from lsn_core.atomic import write_safetensors
from lsn_core.class_names import MAX_NAME
from lsn_core.errors import UserError

HEADER = "lsn"
SCHEMA = 2
PAPER_UNIT = 0.01  # of the test temperatures, as files of schema 1 have them whatever their backbone
MAX_CLASSES = 100_000
_MAX_BYTES = 2**30  # a thousand classes with learned contexts take about 120 MiB
_MAX_HEADER_BYTES = 4 * 2**20  # a hundred thousand class names take about 2
_MAX_TENSORS = 1000
_FLOATS = ("F16", "F32", "F64")
_CONTEXTS = "contexts."
# Kinds of values, number of dimensions, and the largest absolute value; of unit vectors it is 1.
_TENSORS: dict[str, tuple[tuple[str, ...], set[int], float]] = {
    "positive": (_FLOATS, {2}, 1.01),
    "negative": (_FLOATS, {3}, 1.01),
    "calibration": (_FLOATS, {1}, float("inf")),
    "photos.features": (_FLOATS, {2}, 1.01),
    "photos.labels": (("I32", "I64"), {1}, float("inf")),
    _CONTEXTS: (_FLOATS, {1, 2, 3, 4}, 1e4),
}
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")


class _Damaged(Exception):
    """Why a file is not what it should be."""


def read_detector_file(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Metadata and tensors of a detector file, with keys and types checked; shapes are the detector's own business.

    Returns:
        The metadata, and the tensors by name: `positive` (C, D), `negative` (K, C, D), and where they are there
        `calibration` (M,), `photos.features`, `photos.labels` and `contexts.*`. Floating point values are fp32 but for
        the calibration, which is fp64; all are finite.

    Raises:
        UserError: there is no such file, it is something else, damaged, too large or of another schema.
    """
    if not path.is_file():
        raise UserError(f"There is no detector file {path.name}. Check the path, or train one.")
    try:
        described = _read_header(path)
    except (_Damaged, OSError) as error:
        raise UserError(f"{path.name} is not a safetensors file or is damaged ({error}). Get it again.") from error
    header = described.pop("__metadata__", None)
    if not isinstance(header, dict) or not isinstance(header.get(HEADER), str):
        raise UserError(f"{path.name} is a safetensors file, but not a detector saved by lsn_core.")
    try:
        metadata = _parse(header[HEADER])
        schema = metadata["schema"]
    except (_Damaged, KeyError) as error:
        raise UserError(f"{path.name} has damaged metadata ({error}). Get it again, or train it again.") from error
    if type(schema) is int and schema == 1:
        metadata["fit"] = {"test_unit": PAPER_UNIT}
    elif type(schema) is not int or schema != SCHEMA:
        raise UserError(
            f"{path.name} has schema {str(schema)[:20]}, and this version reads 1 to {SCHEMA}. Update lsn_core."
        )
    problems = _problems(metadata) + _tensor_problems(described)
    if problems:
        raise UserError(f"{path.name} is damaged: {', '.join(problems[:5])} wrong or missing.")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: _plain(name, file.get_tensor(name)) for name in described if _expected(name)}
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path.name} is not a safetensors file or is damaged ({error}). Get it again.") from error
    for name, tensor in tensors.items():
        largest = float(tensor.abs().max()) if tensor.numel() else 0.0  # NaN where a value is
        if not (largest <= _TENSORS[_expected(name)][2] and largest < float("inf")):
            raise UserError(f"{path.name} is damaged: values of {name} wrong or missing.")
    return metadata, tensors


def _read_header(path: Path) -> dict[str, Any]:
    """The header of a safetensors file: its length in 8 bytes, then JSON."""
    size = os.stat(path).st_size
    if size > _MAX_BYTES:
        raise _Damaged(f"it is larger than {_MAX_BYTES >> 20:,} MiB")
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(size - 8, _MAX_HEADER_BYTES):
            raise _Damaged("its header is longer than the file" if length > size - 8 else "its header is too long")
        return _parse(file.read(length))


def _parse(text: str | bytes) -> dict[str, Any]:
    """A JSON object in which every key is there once, and every text is one that can be written."""
    try:
        values = json.loads(text, object_pairs_hook=_once)
        json.dumps(values, ensure_ascii=False).encode()
    except RecursionError as error:
        raise _Damaged("it is nested too deeply") from error
    except ValueError as error:  # no JSON, no UTF-8, half a surrogate pair, a number of more than 4,300 digits
        raise _Damaged(str(error)[:200]) from error
    if not isinstance(values, dict):
        raise _Damaged("it is not a JSON object")
    return values


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise _Damaged("a key is given twice")
    return values


def _problems(metadata: dict[str, Any]) -> list[str]:
    """Names of the metadata that are missing or not what they should be."""
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
    wrong += [key for key in ("backbone", "weights_hash", "score") if key not in wrong and not _is_name(metadata[key])]
    if not isinstance(metadata.get("backbone_settings", {}), dict):
        wrong.append("backbone_settings")
    names = [] if "class_names" in wrong else metadata["class_names"]
    if len(names) > MAX_CLASSES or not all(_is_name(name) for name in names if isinstance(name, str)):
        wrong.append("class_names")
    config = {} if "config" in wrong else metadata["config"]
    for key, kind in {"method": str, "positive": dict, "negative": dict}.items():
        wrong += [f"config.{key}"] if not isinstance(config.get(key, kind()), kind) else []
    for key in ("positive_template", "negative_template"):
        wrong += [f"config.{key}"] if not _is_template(config.get(key, "{}")) else []
    templates = config.get("negative_templates", [])
    if not isinstance(templates, list) or not all(map(_is_template, templates)):
        wrong.append("config.negative_templates")
    return wrong


def _tensor_problems(described: dict[str, Any]) -> list[str]:
    """Names of the tensors that are missing or not what they should be, by the file's header."""
    if len(described) > _MAX_TENSORS:
        return [f"{len(described):,} tensors are too many: they are"]
    wrong = [name for name in ("positive", "negative") if name not in described]
    for name, entry in described.items():
        expected = _expected(name)
        if not expected:
            continue
        kinds, dimensions, _ = _TENSORS[expected]
        entry = entry if isinstance(entry, dict) else {}
        shape = entry.get("shape")
        sizes = shape if isinstance(shape, list) and all(type(size) is int and size >= 0 for size in shape) else []
        empty = 0 in (sizes[1:] if name == "negative" else sizes)  # there may be no negative prompts
        if entry.get("dtype") not in kinds or len(sizes) not in dimensions or empty or max(sizes) > _MAX_BYTES:
            wrong.append(name if len(name) < 40 else f"{name[:40]}...")
    return wrong


def _expected(name: str) -> str:
    """Which entry of _TENSORS a tensor's name belongs to; empty for none, and it is not read."""
    return _CONTEXTS if name.startswith(_CONTEXTS) else name if name in _TENSORS else ""


def _is_name(text: str) -> bool:
    return len(text) <= MAX_NAME and not _CONTROL.search(text)


def _is_template(text: object) -> bool:
    return isinstance(text, str) and _is_name(text) and text.count("{}") == 1


def _plain(name: str, tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    return tensor.double() if name == "calibration" else tensor.float()


def write_detector_file(path: Path, metadata: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Writes one .safetensors file; whole or not at all (temporary file, synced, renamed).

    Args:
        metadata: JSON values; the schema is added.
        tensors: by name, any shapes.

    Raises:
        UserError: the name does not end in .safetensors, its folder does not exist, or it cannot be written.
    """
    if path.suffix != ".safetensors":
        raise UserError(f"A detector file must end in .safetensors, and {path.name} does not.")
    if not path.parent.is_dir():
        raise UserError(f"The folder {path.parent} for the detector file does not exist. Create it first.")
    try:
        write_safetensors(path, tensors, {HEADER: json.dumps({"schema": SCHEMA, **metadata})})
    except OSError as error:
        raise UserError(
            f"The detector cannot be written to {path} ({error.strerror or error}). Make room on the disk, or choose "
            "another folder; what was there is as it was."
        ) from error
