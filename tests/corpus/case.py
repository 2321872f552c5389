"""One input of the corpus, and what is right to say to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Right(Enum):
    """What is right where no value is."""

    SENTENCE = "one clear sentence"
    EITHER = "a value or one clear sentence"


@dataclass(frozen=True)
class Case:
    """One input.

    Attributes:
        kind: who takes it: "image", "detector", "text", "call" (of the library), "command", "request", "page" (a value
            for each function of the page) or "tool" (a call over MCP).
        family: what it belongs to in the report.
        name: tells it apart within the family.
        make: gives the input: the bytes of a file, a text, a function to call, arguments or a request.
        right: the value that must come out, or what may come out.
        file: what a file is called.
    """

    kind: str
    family: str
    name: str
    make: Callable[[], Any]
    right: Any
    file: str = ""

    @property
    def id(self) -> str:
        """For messages and tests."""
        return f"{self.family}: {self.name}"


def sample(cases: list[Case], most: int) -> Iterator[Case]:
    """The first, the last and what lies evenly between, of every family at most so many."""
    families: dict[str, list[Case]] = {}
    for case in cases:
        families.setdefault(case.family, []).append(case)
    for members in families.values():
        count = min(most, len(members))
        yield from (members[i * (len(members) - 1) // max(1, count - 1)] for i in range(count))
