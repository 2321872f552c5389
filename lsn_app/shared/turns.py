"""Whose turn it is on a page: answers that are computed at one time may end in any order, and a newer photo stays."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import gradio as gr

from lsn_app.serving.lru import LRU
from lsn_app.serving.photos import Photo

_SESSIONS = 1024


@dataclass(eq=False)
class Turn:
    """The time from one photo of a browser session to the next.

    Attributes:
        photo: the one that was given; None where it is not read yet, was put away, or is the one that the page has.
        over: whether there was another photo since, so that no answer about this one may be shown.
        first: whether it is that of the photo with which the page opened.
    """

    photo: Photo | None = None
    over: bool = False
    first: bool = True

    def unless_over(self, updates: dict[Any, Any]) -> Any:
        """The updates of an answer about the photo; none where it is over."""
        return gr.skip() if self.over else updates


class Turns:
    """The turn of each browser session, of the thousand that were there last."""

    def __init__(self) -> None:
        self._turns = LRU(_SESSIONS)
        self._lock = threading.Lock()

    def begin(self, session: str | None) -> Turn:
        """A new turn, as there is a new photo or none any more; to be called before anything slow is done about it."""
        with self._lock:
            self._now(session).over = True
            return self._put(session, Turn(first=False))

    def now(self, session: str | None) -> Turn:
        """The turn of a session."""
        with self._lock:
            return self._now(session)

    def opening(self, session: str | None) -> Turn:
        """The turn of the photo with which a session's page opened; it is over where there was another since."""
        turn = self.now(session)
        return turn if turn.first else Turn(over=True)

    def _now(self, session: str | None) -> Turn:
        turn: Turn | None = self._turns.get(session)
        return turn or self._put(session, Turn())

    def _put(self, session: str | None, turn: Turn) -> Turn:
        if session is not None:
            self._turns.put(session, turn)
        return turn
