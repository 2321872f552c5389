"""Room on a Ray cluster for one attempt: asked for, waited for, given back."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import lsn_core
from lsn_core.cluster.address import connect
from lsn_core.errors import UserError
from lsn_core.jobs.cluster.messages import Place
from lsn_core.jobs.cluster.remote import RemoteAttempt

log = logging.getLogger(__name__)

_WAIT_SECONDS = 0.2
_AWAY_SECONDS = 60.0  # that a node may be out of reach before it is given up
_PASSED_ON = ("LSN_RUNTIME",)


class NodeLost(Exception):
    """The node on which the attempt ran is gone."""


class ProcessLost(Exception):
    """The attempt's process on its node is gone, and the node is still there."""


class NoSeat(Exception):
    """The program was asked to end while it waited."""


@dataclass(frozen=True)
class Wish:
    """What an attempt needs of a node.

    Attributes:
        address: of the cluster.
        threads: CPU threads, which are as many of Ray's CPUs.
        device: of the backbone; for "cpu" no GPU is asked for, where the cluster has some.
        scratch: folder for scratch folders on the nodes; None for their own.
    """

    address: str
    threads: int
    device: str
    scratch: str | None = None


class Seat:
    """An actor on a node, for as long as this process lives."""

    def __init__(self, wish: Wish) -> None:
        """Asks for it. Raises UserError where the cluster cannot be reached."""
        self._ray = ray = connect(wish.address, log_to_driver=False)
        self.gpu = wish.device != "cpu" and ray.cluster_resources().get("GPU", 0) >= 1
        passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        # What is lost is begun again by whoever has the registry, not by Ray.
        kind = ray.remote(RemoteAttempt).options(
            num_cpus=wish.threads, num_gpus=1 if self.gpu else 0, max_restarts=0, max_task_retries=0
        )
        self._actor = kind.remote(passed_on, wish.scratch)
        self._where = self._actor.place.remote()
        self.node: str | None = None

    def wait(self, go_on: Callable[[], bool]) -> Place:
        """Waits until there is room.

        Raises:
            NoSeat: `go_on` no longer said so.
            UserError: the node cannot do jobs.
        """
        while not self._ray.wait([self._where], timeout=_WAIT_SECONDS)[0]:
            if not go_on():
                raise NoSeat
        try:
            place: Place = self._ray.get(self._where)
        except (ImportError, AttributeError, self._ray.exceptions.RayError) as error:
            log.warning("A node of the cluster cannot do jobs.", exc_info=True)
            raise UserError(
                "A node of the cluster cannot do training jobs: install lsn-core there as it is on this machine "
                f"({_short(error)})."
            ) from error
        if place.version != lsn_core.__version__:
            raise UserError(
                f"The node {place.host} of the cluster has lsn-core {place.version}, and this machine "
                f"{lsn_core.__version__}. Install the same version on both."
            )
        self.node = place.node
        return place

    def ask(self, method: str, *arguments: Any) -> Any:
        """Calls a method of the attempt; tries again while its node is out of reach.

        Raises:
            NodeLost, ProcessLost: it is gone.
        """
        errors, since = self._ray.exceptions, time.monotonic()
        while True:
            try:
                return self._ray.get(getattr(self._actor, method).remote(*arguments))
            except errors.ActorUnavailableError as error:
                if time.monotonic() - since > _AWAY_SECONDS:
                    raise NodeLost(_short(error)) from error
                time.sleep(_WAIT_SECONDS)
            except errors.ActorDiedError as error:
                alive = {node["NodeID"] for node in self._ray.nodes() if node["Alive"]}
                raise (ProcessLost if self.node in alive else NodeLost)(_short(error)) from error

    def tell(self, method: str) -> None:
        """Calls a method of the attempt without waiting for it."""
        getattr(self._actor, method).remote()

    def leave(self) -> None:
        """Gives the room back."""
        self._ray.kill(self._actor)
        self._ray.shutdown()


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[-300:]
