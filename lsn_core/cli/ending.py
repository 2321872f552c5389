"""How commands end that write as they go: a signal unwinds them, so that nothing half-done stays behind."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType

_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


@contextmanager
def unwound_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP raise SystemExit with 128 + their number inside, unless somebody has seen to them before."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    own = [one for one in _SIGNALS if signal.getsignal(one) is signal.SIG_DFL and current_thread() is main_thread()]
    for one in own:
        signal.signal(one, end)
    try:
        yield
    finally:
        for one in own:
            signal.signal(one, signal.SIG_DFL)
