"""Whether the head of a cluster still answers: Ray waits a minute for one that does not, and may end the process."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lsn_core.errors import START_AGAIN, UserError

_EVERY = 3.0  # seconds from one look to the next
_GONE_AFTER = 20.0  # seconds: a head may be started again meanwhile
_PATIENCE = 3.0  # for an answer
_LOOKS = 3  # where something has failed


class ClusterLost(UserError):
    """The cluster that was at work is gone."""


class Head:
    """The head of the cluster that this process is connected to.

    Args:
        ray: the module, connected.
        address: what it was connected by, see `connect`.
    """

    def __init__(self, ray: Any, address: str) -> None:
        self.address = address
        where = address if address.startswith("ray://") else ray.get_runtime_context().gcs_address
        host, _, port = where.removeprefix("ray://").rpartition(":")
        self._where = host.strip("[]"), int(port)
        self._answered = self._looked = time.monotonic()
        self.gone = False
        self._known = self.answers()  # or it is reached some other way, and nothing is to be concluded

    def look(self, now: bool = False) -> None:
        """To be called again and again while nothing comes from the cluster; most calls cost nothing.

        Args:
            now: whether to wait until it is clear whether the head answers, as Ray is to be asked something.

        Raises:
            ClusterLost: the head has not answered for some time.
        """
        if not self._known:
            return
        started = time.monotonic()
        while now and not self.answers():
            if time.monotonic() - started > _GONE_AFTER:
                raise self.lost()
            time.sleep(min(1.0, _EVERY))
        if time.monotonic() - self._looked < _EVERY:
            return
        if time.monotonic() - self._looked > 2 * _EVERY:  # this process had other things to do
            self._answered = time.monotonic()
        if self.answers():
            self._answered = time.monotonic()
        self._looked = time.monotonic()
        if self._looked - self._answered > _GONE_AFTER:
            raise self.lost()

    @contextmanager
    def explained(self) -> Iterator[None]:
        """What Ray raises when the cluster is gone comes out as ClusterLost; all else as it is."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # of Ray, of gRPC, or of the system
            for _ in range(_LOOKS):
                if not self._known or self.answers():
                    raise
                time.sleep(_EVERY / _LOOKS)
            raise self.lost() from error

    def lost(self) -> ClusterLost:
        """The error to end with."""
        self.gone = True
        return ClusterLost(
            f"The Ray cluster ({self.address}) no longer answers, in the middle of the work. See that it runs (ray "
            f"status), or do without. {START_AGAIN}"
        )

    def answers(self) -> bool:
        """Whether it does so now."""
        try:
            socket.create_connection(self._where, _PATIENCE).close()
        except OSError:
            return False
        return True
