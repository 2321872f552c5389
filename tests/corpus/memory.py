"""What limits the memory of a process that tries hostile inputs."""

from __future__ import annotations

import resource
from pathlib import Path

SPARE = 3 * 2**29  # bytes of addresses that a program may take above those it has once it is loaded


def limit_memory(process: int | None = None, spare: int = SPARE) -> None:
    """Lets a process, by default this one, take so many bytes more than it has. Does nothing where that can't be told.

    What asks for more gets a MemoryError.
    """
    about = Path(f"/proc/{process or 'self'}/status")
    if not about.exists():
        return
    (line,) = [line for line in about.read_text().splitlines() if line.startswith("VmSize:")]
    most = int(line.split()[1]) * 1024 + spare
    resource.prlimit(process or 0, resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))
