"""A dictionary of bounded size for many threads."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

_PHOTOS, _TEXTS, _BACKBONES, _DETECTORS, _PREPARED, _VIEWS, _REGISTERED = 8192, 20_000, 3, 8, 16, 4, 1024


class LRU:
    """A dictionary of bounded size for many threads; what was used longest ago goes first."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Any:
        """The value, or None."""
        with self._lock:
            if key in self._items:
                self._items.move_to_end(key)
            return self._items.get(key)

    def put(self, key: Hashable, value: Any) -> None:
        """Keeps a value, forgetting the oldest where there is no room."""
        with self._lock:
            self._items[key] = value
            self._items.move_to_end(key)
            while len(self._items) > self._size:
                self._items.popitem(last=False)
