"""What a node and the relay tell each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lsn_core.jobs.job import Point

FAIL, LOG = "fail", "log"
REPORTS = ("prepared", "trained", "advance", "finish", FAIL)
"""Methods of the registry that a node may call by way of the relay; all take the job and the claim first."""


@dataclass(frozen=True)
class Event:
    """Something that happened on the node: a name of `REPORTS`, or `LOG` with one text, and its further arguments."""

    name: str
    arguments: tuple[Any, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Batch:
    """What has happened on the node since the last batch.

    Attributes:
        number: from 1; the relay asks for the next one with it, and for the same one again with the number before.
        files: name -> content of the files of the job's folder that are new, or None of those that are gone, in the
            order in which they are to be written; they are at least as new as the events.
        events: in order.
        needs: names of data sets that the node waits for.
        memory: bytes of main memory that the attempt takes.
        ended: there will be no further batch.
    """

    number: int
    files: dict[str, bytes | None]
    events: tuple[Event, ...]
    needs: tuple[str, ...]
    memory: int
    ended: bool


@dataclass(frozen=True)
class Part:
    """Part of a file on its way to a node.

    Attributes:
        content: None where there is no such file.
        start: where in the file it belongs.
        last: the file is whole with it.
    """

    content: bytes | None
    start: int
    last: bool


@dataclass(frozen=True)
class Place:
    """Where an attempt has found room.

    Attributes:
        node, host: the node's id and its address.
        version, torch: of this package, and of torch there.
    """

    node: str
    host: str
    version: str
    torch: str


class Events:
    """Stands in for the registry on a node: reports are handed on as events."""

    def __init__(self, add: Callable[[Event], None]) -> None:
        """Takes what is called with each event."""
        self._add = add

    def prepared(self, job_id: str, claim: str, done: int, images: int) -> None:
        """As `Registry.prepared`."""
        self._add(Event("prepared", (done, images)))

    def trained(self, job_id: str, claim: str, point: Point, total: int, *, first: bool) -> None:
        """As `Registry.trained`."""
        self._add(Event("trained", (point, total), (("first", first),)))

    def advance(self, job_id: str, claim: str, to: str) -> None:
        """As `Registry.advance`."""
        self._add(Event("advance", (to,)))

    def finish(self, job_id: str, claim: str, result: str, metrics: dict[str, Any]) -> None:
        """As `Registry.finish`."""
        self._add(Event("finish", (result, metrics)))
