"""Image features as a file for other tools: Parquet, NumPy's .npz, safetensors."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from lsn_core.atomic import written_beside
from lsn_core.errors import UserError
from lsn_core.parquet_rows import open_parquet_rows

Write = Callable[[str, np.ndarray | UserError], None]
"""Takes the name of an image, and its feature (D,), float32, or the error about it."""


@contextmanager
def open_feature_file(path: Path, dim: int, facts: Mapping[str, str]) -> Iterator[Write]:
    """A file of features, which is there when all of them are: written beside and renamed at the end.

    Args:
        path: .parquet is written as features come, with columns `file`, `feature` (null where there is none) and
            `error`. .npz and .safetensors are kept in memory until then: `features` (M, D), and of the M images that
            have one the names, of the others names and errors; in .safetensors as JSON in the metadata.
        dim: D.
        facts: what the features depend on; kept in the file by these names.

    Raises:
        UserError: the ending is another, the file cannot be written, or another process is writing it.
    """
    kind = path.suffix.lower()
    if kind not in _WRITERS:
        raise UserError(f"{path}: features are written as {', '.join(_WRITERS)}, by the ending of the file's name.")
    with written_beside(path) as temporary, _WRITERS[kind](temporary, dim, facts) as write:
        yield write


@contextmanager
def _parquet(path: Path, dim: int, facts: Mapping[str, str]) -> Iterator[Write]:
    import pyarrow as pa

    columns = [("file", pa.string()), ("feature", pa.list_(pa.float32(), dim)), ("error", pa.string())]
    with open_parquet_rows(path, pa.schema(columns, dict(facts))) as write_row:

        def write(name: str, found: np.ndarray | UserError) -> None:
            failed = isinstance(found, UserError)
            write_row({"file": name, "feature": None if failed else found, "error": str(found) if failed else None})

        yield write


class _Kept:
    """Features in memory."""

    def __init__(self, dim: int) -> None:
        self._dim = dim
        self.files: list[str] = []
        self.rows: list[np.ndarray] = []
        self.errors: dict[str, str] = {}

    def __call__(self, name: str, found: np.ndarray | UserError) -> None:
        if isinstance(found, UserError):
            self.errors[name] = str(found)
        else:
            self.files.append(name)
            self.rows.append(found)

    @property
    def features(self) -> np.ndarray:
        """Shape (M, D)."""
        return np.array(self.rows, np.float32).reshape(len(self.rows), self._dim)


@contextmanager
def _npz(path: Path, dim: int, facts: Mapping[str, str]) -> Iterator[Write]:
    kept = _Kept(dim)
    yield kept
    names, errors = np.array([*kept.errors], np.str_), np.array([*kept.errors.values()], np.str_)
    files = np.array(kept.files, np.str_)
    arrays = {name: np.array(value) for name, value in facts.items()}
    np.savez(path, features=kept.features, files=files, error_files=names, errors=errors, **arrays)  # type: ignore[arg-type]


@contextmanager
def _safetensors(path: Path, dim: int, facts: Mapping[str, str]) -> Iterator[Write]:
    from safetensors.numpy import save

    kept = _Kept(dim)
    yield kept
    lists = {"files": json.dumps(kept.files), "errors": json.dumps(kept.errors)}
    path.write_bytes(save({"features": kept.features}, {**facts, **lists}))


_WRITERS = {".parquet": _parquet, ".npz": _npz, ".safetensors": _safetensors}
