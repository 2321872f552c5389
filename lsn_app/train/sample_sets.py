"""Sample sets for the Train tab: a fixed list, fetched on request with torchvision and kept for everybody."""

from __future__ import annotations

import logging
import os
import re
import tempfile
import threading
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torchvision import datasets

from lsn_core import UserError

log = logging.getLogger(__name__)

PER_CLASS = 300
"""Photos of each class that are kept: some more than the Train tab can ask for."""

_FIXED_TIME = (1980, 1, 1, 0, 0, 0)  # so that everybody's archive is the same
_locks: dict[str, threading.Lock] = {}


@dataclass(frozen=True)
class Sample:
    """A set of labelled photos that can be fetched.

    Attributes:
        name: its name, also of its file.
        about: what it shows, how much is fetched, from where, and on what terms.
        download: fetches and unpacks it below a folder, checking its checksum: class name -> folder of photos.
    """

    name: str
    about: str
    download: Callable[[Path], dict[str, Path]]


def _imagenette(root: Path) -> dict[str, Path]:
    data = datasets.Imagenette(root, split="train", size="160px", download=True)
    folder = root / "imagenette2-160" / "train"
    return {names[0]: folder / wnid for wnid, names in zip(data.wnids, data.classes, strict=True)}


def _eurosat(root: Path) -> dict[str, Path]:
    data = datasets.EuroSAT(root, download=True)
    # "AnnualCrop" -> "annual crop": CLIP has read words.
    return {
        re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower(): root / "eurosat" / "2750" / name for name in data.classes
    }


SAMPLES = {
    sample.name: sample
    for sample in (
        Sample(
            "Imagenette",
            "10 things that are easy to tell apart, from a tench to a parachute; 94 MiB from fast.ai (Apache-2.0; the "
            "photos are ImageNet's, for research)",
            _imagenette,
        ),
        Sample(
            "EuroSAT",
            "10 kinds of land seen by the satellite Sentinel-2; 90 MiB from Hugging Face (MIT; Helber et al. 2019)",
            _eurosat,
        ),
    )
}


def fetch(name: str, folder: Path) -> Path:
    """A sample set as a zip of class folders, fetched where it was not before; those who ask at once wait for one.

    Args:
        name: one of `SAMPLES`.
        folder: where it is kept; made where missing.

    Raises:
        UserError: there is no such set, or it cannot be fetched or stored.
    """
    if name not in SAMPLES:
        raise UserError(f"There is no sample set called {name!r}. Choose one of {', '.join(SAMPLES)}.")
    path = folder / f"{name}.zip"
    with _locks.setdefault(name, threading.Lock()):
        if not path.is_file():
            try:
                folder.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryDirectory(dir=folder) as unpacked:
                    classes = SAMPLES[name].download(Path(unpacked))
                    packed = Path(unpacked) / "packed.zip"
                    _pack(classes, packed)
                    os.replace(packed, path)
            except (OSError, RuntimeError) as error:  # RuntimeError: a wrong checksum
                log.warning("%s could not be fetched: %s", name, error)
                reason = getattr(error, "reason", error)  # of a URLError
                raise UserError(
                    f"{name} could not be fetched ({getattr(reason, 'strerror', None) or reason}). This server may "
                    "have no network or too little room: try again later, or upload photos of your own."
                ) from error
    return path


def _pack(classes: dict[str, Path], path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, folder in classes.items():
            for photo in sorted(folder.iterdir())[:PER_CLASS]:
                archive.writestr(zipfile.ZipInfo(f"{name}/{photo.name}", _FIXED_TIME), photo.read_bytes())
