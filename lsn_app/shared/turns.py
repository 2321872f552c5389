"""Whose turn it is on a page: answers that are computed at one time may end in any order, and the newest stays.

A turn lasts from one photo of a browser session to the next. Within it, questions of one topic (the verdict, a table)
take the place of each other. The slider of the threshold only moves the newest answer.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import gradio as gr

from lsn_app.serving.lru import LRU
from lsn_app.serving.photos import Photo

M = TypeVar("M", bound="Movable")

_SESSIONS = 1024
_READ_SECONDS = 30.0  # the longest that a question waits for the photo that it is about to be read


@dataclass(eq=False)
class Turn:
    """The time from one photo of a browser session to the next, or from one set of many photos to the next.

    Attributes:
        first: whether it is that of what the page opened with.
        over: whether there was another photo since, so that no answer about this one may be shown.
        rate: where the threshold's slider was moved to since it began; None where it was not.
    """

    first: bool = True
    over: bool = False
    rate: float | None = None
    _photo: Photo | None = None
    _given: bool = False
    _read: threading.Event = field(default_factory=threading.Event)
    _newest: dict[str, Question] = field(default_factory=dict)
    _answer: Callable[[], Movable | None] | None = None  # weakly: it lives as long as the session

    def take(self, photo: Photo | None) -> None:
        """The photo that was given was read, or could not be."""
        self._photo, self._given = photo, True
        self._read.set()

    def keep(self) -> None:
        """There will be no other photo than the one that the page has."""
        self._read.set()

    def photo(self, on_page: Photo | None) -> Photo | None:
        """The newest photo, of which the page may not know yet; the one that the page has where none was given."""
        if not self.first:
            self._read.wait(_READ_SECONDS)
        return self._photo if self._given else on_page

    def ask(self, topic: str) -> Question:
        """A new question; an older one on the same topic is over. To be called before anything slow is done for it."""
        question = Question(self, topic)
        self._newest[topic] = question
        return question

    def is_newest(self, question: Question) -> bool:
        """Whether no other question on its topic came later."""
        return self._newest.get(question.topic) is question

    def move(self, on_page: Movable | None, rate: float, show: Callable[[Any], dict[Any, Any]]) -> Any:
        """The newest answer at another rate of the threshold; no updates where there is none, or a newer one came.

        Args:
            on_page: the answer that the page has.
            rate: wanted true positive rate, in (0, 1).
            show: the updates that show an answer.
        """
        question, self.rate = self.ask("rate"), rate
        answer = self._newest_answer(on_page)
        if answer is None:
            return gr.skip()
        updates = show(answer.at(rate))
        return gr.skip() if question.over or self._newest_answer(on_page) is not answer else updates

    def _newest_answer(self, on_page: Movable | None) -> Movable | None:
        if self._answer is None:
            return on_page if self.first else None
        return self._answer() or on_page


class Movable(Protocol):
    """An answer that can be moved to another rate of the threshold."""

    def at(self: M, tpr: float) -> M:
        """The same answer at another wanted true positive rate."""


@dataclass(frozen=True, eq=False)
class Question:
    """One question about the photo of a turn.

    Attributes:
        turn: when it was asked.
        topic: what it is about.
    """

    turn: Turn
    topic: str

    @property
    def over(self) -> bool:
        """Whether there is another photo or a newer question, so that its answer may not be shown."""
        return self.turn.over or not self.turn.is_newest(self)

    def answered(self, answer: M) -> M:
        """The answer, where the slider was moved to meanwhile; from now on it is this one that the slider moves."""
        turn = self.turn
        if self.over:
            return answer
        # In this order, so that a move that is not seen here sees the answer.
        turn._answer = weakref.ref(answer)
        if turn.rate is not None:
            answer = answer.at(turn.rate)
            turn._answer = weakref.ref(answer)
        return answer

    def unless_over(self, updates: Any) -> Any:
        """The updates of its answer; none where it is over."""
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

    def ask(self, session: str | None, topic: str) -> Question:
        """A new question in the turn of a session, see `Turn.ask`."""
        return self.now(session).ask(topic)

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
