"""What a worker tells the process that does a job."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass


class Stopped(Exception):
    """A job has stopped, as it was asked to."""


@dataclass(frozen=True)
class Attempt:
    """One try of a worker at a job, from a claim to its end or a stop.

    Attributes:
        folder: the data directory.
        job, claim: which job, and the number of this attempt.
        device: of the backbone.
        checkpoint_seconds: least time between checkpoints.
    """

    folder: str
    job: str
    claim: str
    device: str
    checkpoint_seconds: float

    def command(self, worker: str | None = None) -> list[str]:
        """The command line that starts it; with a worker's name, it takes a lock of its own on that one's place."""
        names = [] if worker is None else [worker]
        return [sys.executable, "-m", "lsn_core.jobs.worker.process", json.dumps(asdict(self)), *names]
