"""Files of another machine, asked for before they are needed where they are read one after the other."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Sequence
from concurrent.futures import Future

_MOST = 8  # files on their way beside the one that is asked for
_READERS = 4  # who read one after the other, each elsewhere


class ReadAhead:
    """Reads files by number, and has the next ones fetched meanwhile: none at first, and twice as many with each that
    follows the last, so that who reads here and there gets no more than is asked for.

    Args:
        fetch: begins to fetch a file; called with the numbers in `order` only.
        order: numbers of the files in the order in which they are likely to be read, ascending.
    """

    def __init__(self, fetch: Callable[[int], Future[bytes]], order: Sequence[int]) -> None:
        self._fetch, self._order = fetch, order
        self._lock = threading.Lock()
        self._coming: dict[int, Future[bytes]] = {}
        self._expected: dict[int, int] = {}  # place in the order that is likely to be read next -> how many ahead

    def read(self, number: int) -> bytes:
        """The bytes of a file. Raises what fetching it did."""
        with self._lock:
            place = bisect_left(self._order, number)
            ahead = self._expected.pop(place, 0)
            following = self._order[place + 1 : place + 1 + ahead]
            for one in (number, *following):
                if one not in self._coming:
                    self._coming[one] = self._fetch(one)
            self._expected[place + 1] = min(_MOST, max(1, 2 * ahead))
            if len(self._expected) > _READERS:
                self._forget(next(iter(self._expected)))
            coming = self._coming.pop(number)
        return coming.result()

    def _forget(self, place: int) -> None:
        """Somebody who has begun to read there is not waited for any more."""
        for one in self._order[place : place + self._expected.pop(place)]:
            if (coming := self._coming.pop(one, None)) is not None:
                coming.cancel()
