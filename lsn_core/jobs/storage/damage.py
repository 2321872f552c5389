"""A registry or a queue that is damaged: told from one that is fine, and kept aside with all that belongs to it."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from lsn_core.errors import UserError
from lsn_core.jobs.storage.database import REGISTRY_FILE
from lsn_core.jobs.storage.locks import Slots
from lsn_core.jobs.storage.registry import Registry

log = logging.getLogger(__name__)

_BESIDE = ("-wal", "-shm", "-journal")  # SQLite's own, which belong to the file and to no other
_FOLDERS = ("jobs", "datasets")  # a new registry would know none of them, and they would be tidied away


def set_damaged_aside(folder: Path, queue_file: str) -> list[str]:
    """Looks whether the registry and the queue of a data directory can be read; moves what cannot out of the way.

    Nothing is deleted: a damaged registry keeps its name with ".damaged-DATE" behind it, and so do the folders of its
    jobs and data sets, which a new registry would take for nobody's.

    Args:
        folder: the data directory.
        queue_file: name of the SQLite queue in it.

    Returns:
        A sentence for each thing that was set aside.

    Raises:
        UserError: a later version wrote the registry, a worker is still at it, or the files cannot be read or moved.
    """
    said = []
    registry, queue = folder / REGISTRY_FILE, folder / queue_file
    for path in (registry, queue):
        if path.exists() and not path.is_file():
            raise UserError(f"{path} is no file, and a database is kept there. Move it away, or set another LSN_DATA.")
    if reason := _damage_of_registry(folder):
        if (folder / "workers").is_dir() and Slots(folder).any_held():
            raise UserError(f"{registry} is damaged ({reason}) and a worker is still at it. End that worker first.")
        ending = _ending(folder)
        moved = [_move(folder / name, ending) for name in _FOLDERS if _has_something(folder / name)]
        moved.append(_move_database(registry, ending))  # last: until then, the next start sees the damage again
        said.append(
            f"The list of training jobs was damaged ({reason}) and begins anew. Nothing is deleted: what was there is "
            f"kept in {folder} as {', '.join(moved)}."
        )
    if reason := _damage(queue):
        moved_queue = _move_database(queue, _ending(folder))
        said.append(f"The queue of training jobs was damaged ({reason}) and is made anew; it is kept as {moved_queue}.")
    return said


def _damage_of_registry(folder: Path) -> str:
    """What is wrong with the registry, as part of a sentence; empty where it can be used."""
    path = folder / REGISTRY_FILE
    if path.is_file() and not path.stat().st_size and any(_has_something(folder / name) for name in _FOLDERS):
        return "it is empty"  # SQLite would take it for a new one
    if reason := _damage(path):
        return reason
    if not path.is_file():
        return ""
    try:
        with closing(Registry(folder)) as registry:
            jobs = registry.jobs()
            registry.queue()
            for job in jobs:
                registry.progress(job.id), registry.history(job.id)
    except UserError:
        raise
    except sqlite3.OperationalError as error:
        if not str(error).startswith("no such"):  # a table or a column that is not there
            raise UserError(f"{path} cannot be used ({error}). Check the folder's permissions and the disk.") from error
        return str(error)
    except (sqlite3.Error, ValueError, TypeError, KeyError, AssertionError) as error:
        return str(error)[:120] or type(error).__name__
    return ""


def _damage(path: Path) -> str:
    """What SQLite finds wrong with a file, without changing it; empty for nothing, or where it is not there."""
    if not path.is_file():
        return ""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            found = [str(row[0]) for row in database.execute("PRAGMA quick_check(1)")]
    except sqlite3.OperationalError:
        if not os.access(path, os.R_OK):
            raise UserError(f"{path} may not be read. Check its permissions.") from None
        return ""  # locked, or to be rolled back first: whoever opens it to write does that
    except sqlite3.DatabaseError as error:
        return str(error)
    return "" if found == ["ok"] else (found[0].splitlines()[-1][:120] if found else "nothing can be read")


def _has_something(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _ending(folder: Path) -> str:
    """What is put behind names that are set aside: the date, and a number where that is taken."""
    date = time.strftime(".damaged-%Y-%m-%d-%H%M%S")
    taken = {path.name for path in folder.iterdir()}
    number, ending = 1, date
    while any(name.endswith(ending) for name in taken):
        number, ending = number + 1, f"{date}-{number + 1}"
    return ending


def _move_database(path: Path, ending: str) -> str:
    for beside in _BESIDE:
        other = path.with_name(path.name + beside)
        if other.exists():
            _move(other, ending)
    return _move(path, ending)


def _move(path: Path, ending: str) -> str:
    try:
        os.rename(path, path.with_name(path.name + ending))
    except OSError as error:
        raise UserError(
            f"{path} belongs to a damaged list of jobs and cannot be moved aside ({error.strerror}). Move it yourself."
        ) from error
    return path.name + ending
