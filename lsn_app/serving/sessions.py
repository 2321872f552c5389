"""What the server keeps of each visitor, bounded: callers that come once leave nothing behind."""

from __future__ import annotations

from copy import copy
from datetime import datetime
from typing import Any

from gradio.blocks import Blocks
from gradio.components import State
from gradio.state_holder import SessionState, StateHolder

_PASSING = 64  # callers kept who never opened the page; each of their calls can be a session of its own
_VISITORS = 2000


class SmallSession(SessionState):
    """A visitor's state without the configuration of every component that Gradio copies for links it makes to a state.

    This page has links of its own (`Address`); the copy is 0.45 MB a session.
    """

    def __init__(self, blocks: Blocks) -> None:
        self.blocks_config = copy(blocks.default_config)
        self.config_values = {}
        self.state_data: dict[int, Any] = {}
        self._state_ttl: dict[int, Any] = {}
        self.is_closed = False
        self.STATE_TTL_WHEN_CLOSED = 3600

    def __setitem__(self, key: int, value: Any) -> None:
        block = self.blocks_config.blocks.get(key)
        if isinstance(block, State):
            self._state_ttl[key] = (block.time_to_live, datetime.now())
            self.state_data[key] = value
        else:
            self.blocks_config.blocks[key] = value

    def _update_config(self, key: int) -> None:
        pass

    def _update_value_in_config(self, key: int, value: Any) -> None:
        pass


class Sessions(StateHolder):
    """The sessions of the page's visitors, and of the last few callers who never opened the page.

    Attributes:
        visitors: sessions that opened the page, oldest first; as a browser's heartbeat tells.
    """

    visitors: dict[str, None]

    @classmethod
    def take_over(cls, holder: StateHolder) -> None:
        """Makes Gradio's own holder one of these."""
        holder.__class__ = cls
        holder.visitors = {}  # type: ignore[attr-defined]

    def greet(self, session: str) -> None:
        """A session that has a page open is not forgotten when callers come and go."""
        self.visitors.pop(session, None)
        self.visitors[session] = None
        while len(self.visitors) > _VISITORS:
            self._forget(next(iter(self.visitors)))

    def __getitem__(self, session_id: str) -> SessionState:
        if session_id not in self.session_data:
            self.session_data[session_id] = SmallSession(self.blocks)
        return super().__getitem__(session_id)

    def update(self, session_id: str) -> None:
        super().update(session_id)
        with self.lock:
            passing = [session for session in self.session_data if session not in self.visitors]
        for session in passing[:-_PASSING]:
            self._forget(session)

    def _forget(self, session: str) -> None:
        self.delete_state(session)  # what a component must do when its value goes, such as deleting a file
        with self.lock:
            self.visitors.pop(session, None)
            self.session_data.pop(session, None)
            self.time_last_used.pop(session, None)
        waiting = self.blocks._queue.pending_event_ids_session
        if not waiting.get(session, True):
            del waiting[session]
