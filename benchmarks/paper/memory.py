"""The most memory that a piece of work took, of the machine's and of the GPU's."""

from __future__ import annotations

import gc
import re
import sys
from pathlib import Path

import torch


def forget_peak() -> None:
    """Begins anew; where the system does not let a process do that, the peak stays that of the whole process.

    Models that refer to themselves in circles and are no longer needed are let go of now, as Python would do it too
    late for weights of gigabytes.
    """
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    if sys.platform == "linux":
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            return


def peak_gib() -> dict[str, float]:
    """Since `forget_peak`, in GiB: "memory", and "gpu" where there is one."""
    found = {"memory": _resident() / 2**30}
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.max_memory_allocated() / 2**30
    return {name: round(value, 2) for name, value in found.items()}


def _resident() -> int:
    """Bytes."""
    if sys.platform == "linux":
        status = Path("/proc/self/status").read_text()
        if found := re.search(r"VmHWM:\s+(\d+) kB", status):
            return 1024 * int(found[1])
    try:
        import resource
    except ImportError:  # Windows
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most
