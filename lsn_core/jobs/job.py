"""A training job as the registry knows it: its states, which may follow which, and its record."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

QUEUED, PREPARING, TRAINING, EVALUATING = "queued", "preparing", "training", "evaluating"
DONE, STOPPED, FAILED, INTERRUPTED = "done", "stopped", "failed", "interrupted"
STATES = (QUEUED, PREPARING, TRAINING, EVALUATING, DONE, STOPPED, FAILED, INTERRUPTED)
ACTIVE = (PREPARING, TRAINING, EVALUATING)
"""A worker is at it."""
PENDING = (QUEUED, *ACTIVE, INTERRUPTED)
"""It will go on by itself."""
FINISHED = (DONE, STOPPED, FAILED)
RESUMABLE = (STOPPED, FAILED, INTERRUPTED)

MOVES = frozenset(
    [(QUEUED, PREPARING), (PREPARING, TRAINING), (TRAINING, EVALUATING), (EVALUATING, DONE), (QUEUED, STOPPED)]
    + [(state, end) for state in ACTIVE for end in (STOPPED, FAILED, INTERRUPTED)]
    + [(INTERRUPTED, STOPPED), (INTERRUPTED, FAILED)]
    + [(state, QUEUED) for state in RESUMABLE]
)
"""Every change of state there is; the database refuses all others."""


@dataclass(frozen=True)
class Point:
    """How training stood after a step: loss and accuracy (share in [0, 1]) of its batch, training time in seconds."""

    step: int
    phase: str
    loss: float
    accuracy: float
    seconds: float


@dataclass(frozen=True)
class Job:
    """One job's record.

    Attributes:
        id: 12 hexadecimal digits.
        owner: a digest of its owner's token, from which the token cannot be had.
        name: what the owner calls it.
        state: one of STATES.
        dataset: name of its copy of the data set: the SHA-256 of the content and a suffix.
        classes: class name -> number of images in the data set.
        ood: name of its copy of the out-of-distribution images, or None.
        ood_name: what those are called in reports.
        backbone: name of the backbone.
        config: the training config as plain values.
        threads: CPU threads it began with; it must go on with as many to end with the same bits.
        images, prepared: images to encode, and how many of them are encoded.
        step, total, phase: training steps done and in all; "positive" or "negative".
        metrics: what was measured of the detector, once done.
        result: file name of the detector in the job's folder, once done.
        error: why it failed, as a sentence.
        created, queued, started, finished: times, seconds since the epoch; `queued` and `started` are the latest.
        seconds: time worked so far, of all attempts since it was last resumed by hand.
        worker, claim: who is at it, and the number of this attempt.
        stop_requested: its owner wants it stopped.
        resumed: it had its turn already, so it goes before the others.
        reached, mark: a number that grows with images encoded and steps done, and what it was when last claimed.
        losses: times in a row that its worker died at it without `reached` having grown.
    """

    id: str
    owner: str
    name: str
    state: str
    dataset: str
    classes: dict[str, int]
    ood: str | None
    ood_name: str | None
    backbone: str
    config: dict[str, Any]
    created: float
    queued: float
    threads: int | None = None
    images: int = 0
    prepared: int = 0
    step: int = 0
    total: int = 0
    phase: str | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    result: str | None = None
    error: str | None = None
    started: float | None = None
    finished: float | None = None
    seconds: float = 0.0
    worker: str | None = None
    claim: str | None = None
    stop_requested: bool = False
    resumed: bool = False
    reached: int = 0
    mark: int = 0
    losses: int = 0

    @property
    def active(self) -> bool:
        """Whether a worker is at it."""
        return self.state in ACTIVE

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the registry's own bookkeeping."""
        hidden = ("claim", "resumed", "reached", "mark", "losses", "stop_requested")
        return {key: value for key, value in asdict(self).items() if key not in hidden}
