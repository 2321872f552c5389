"""What keeps a worker from beginning jobs, left where those who look at the jobs find it."""

from __future__ import annotations

from pathlib import Path

from lsn_core.atomic import write_bytes
from lsn_core.jobs.storage.locks import Slots

_FOLDER, _ENDING = "workers", ".note"


def note_hindrance(folder: Path, worker: str, sentence: str) -> None:
    """Says why a worker begins no jobs just now; an empty sentence says that nothing is in its way.

    Args:
        folder: the data directory.
        worker: its name.
    """
    path = folder / _FOLDER / f"{worker}{_ENDING}"
    if sentence:
        write_bytes(path, sentence.encode())
    else:
        path.unlink(missing_ok=True)


def current_hindrance(folder: Path, slots: Slots) -> str:
    """Why the workers that are alive begin no jobs just now; empty where one of them is not hindered."""
    sentences = []
    for worker in slots.workers():
        try:
            sentences.append((folder / _FOLDER / f"{worker}{_ENDING}").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return ""
    return sentences[0] if sentences else ""
