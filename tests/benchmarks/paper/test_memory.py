"""What is no longer needed is let go of before the next cells are measured."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from benchmarks.paper.memory import forget_peak


@pytest.fixture
def _late() -> Iterator[None]:
    """Circles stay until they are looked for, as in a run that makes few objects."""
    gc.disable()
    yield
    gc.enable()


class Kept:
    """What refers to itself, as a backbone does."""

    def __init__(self) -> None:
        self.own = self


@pytest.mark.usefixtures("_late")
def test_circles_are_let_go_of() -> None:
    kept = weakref.ref(Kept())
    assert kept() is not None
    forget_peak()
    assert kept() is None
