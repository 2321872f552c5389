"""How much memory a process takes, where the system says so."""

from __future__ import annotations

import os
from pathlib import Path

from lsn_core.errors import UserError

_STATM = "/proc/{}/statm"


def check_watchable(limit_gib: float | None) -> None:
    """Raises UserError for a limit that could not be kept here."""
    if limit_gib and not Path(_STATM.format("self")).exists():
        raise UserError(
            "How much memory a job takes can be watched on Linux alone. Leave out --memory-gib and LSN_JOB_MEMORY_GIB."
        )


def resident(process_id: int) -> int:
    """Bytes of main memory that a process has; 0 once it is gone."""
    try:
        pages = int(Path(_STATM.format(process_id)).read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def too_much_memory(limit_gib: float) -> str:
    """What is said of a job that took more."""
    return (
        f"It took more than the {limit_gib:g} GiB of memory that a job may have. "
        "Use fewer classes or a smaller memory_gib in the settings."
    )
