"""Where a program writes: into one data directory, whatever the libraries below it would choose."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import MutableMapping
from pathlib import Path

_FOLDERS = {"TMPDIR": "tmp", "HF_HOME": "huggingface", "TORCH_HOME": "torch", "MPLCONFIGDIR": "matplotlib"}
_ABANDONED_SECONDS = 2 * 86_400.0


def keep_within(folder: Path, environment: MutableMapping[str, str]) -> None:
    """Makes temporary files, downloads and caches go below a folder, which is made; to be called before other imports.

    What the environment says already stays so. Models that lie in the Hub's usual cache, such as a Space's preloaded
    ones, are linked from there. Temporary files that an earlier run left behind are removed after two days.
    """
    usual = Path(environment.get("HOME", "~")).expanduser() / ".cache" / "huggingface" / "hub"
    own_models = not {"HF_HOME", "HF_HUB_CACHE"} & environment.keys()
    for name, part in _FOLDERS.items():
        environment.setdefault(name, str(folder / part))
        Path(environment[name]).mkdir(parents=True, exist_ok=True)
    tempfile.tempdir = None  # it may have been looked up before
    hub = Path(environment["HF_HOME"]) / "hub"
    for model in usual.glob("models--*") if own_models else ():
        hub.mkdir(exist_ok=True)
        if not (hub / model.name).exists():
            (hub / model.name).unlink(missing_ok=True)  # a link to what has gone
            (hub / model.name).symlink_to(model)
    for path in (folder / "tmp").glob("*"):
        if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
