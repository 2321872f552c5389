"""Whether the machine's clock may decide what is old enough to be deleted."""

from __future__ import annotations

import logging
import time

log = logging.getLogger(__name__)

_EVEN_SECONDS = 3600.0  # that a clock must have gone evenly; one that was wrong at the start is set right by then
_JUMP_SECONDS = 60.0  # between the clock and what has passed


class SteadyClock:
    """Trusts the clock once it has gone on for an hour as time does; a jump begins the hour anew.

    A clock that is set forward by a month, and back a minute later, would otherwise delete all that was finished.
    """

    def __init__(self) -> None:
        self._since, self._ahead = time.monotonic(), time.time() - time.monotonic()

    def trusted(self) -> bool:
        """Whether it may decide now."""
        ahead = time.time() - time.monotonic()
        jump, self._ahead = ahead - self._ahead, ahead
        if abs(jump) > _JUMP_SECONDS:
            self._since = time.monotonic()
            log.warning("The clock was set by %+.0f s. Nothing is deleted for its age in the next hour.", jump)
        return time.monotonic() - self._since >= _EVEN_SECONDS
