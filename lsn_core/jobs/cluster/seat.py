"""Room on a Ray cluster for one attempt: asked for, waited for, given back."""

from __future__ import annotations

import logging
import math
import os
import socket
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
_SURE_SECONDS = 5.0  # for an answer, before it is asked whether the whole cluster is out of reach
_PASSED_ON = ("LSN_RUNTIME",)


class NodeLost(Exception):
    """The node on which the attempt ran is gone."""


class ProcessLost(Exception):
    """The attempt's process on its node is gone, and the node is still there."""


class ClusterLost(Exception):
    """The whole cluster is gone."""


class NoSeat(Exception):
    """The program was asked to end while it waited."""


@dataclass(frozen=True)
class Wish:
    """What an attempt needs of a node.

    Attributes:
        address: of the cluster.
        threads: CPU threads, which are as many of Ray's CPUs.
        device: of the backbone; for "cpu" no GPU is asked for, where the cluster has some.
    """

    address: str
    threads: int
    device: str


class Seat:
    """An actor on a node, for as long as this process lives."""

    def __init__(self, wish: Wish) -> None:
        """Asks for it. Raises UserError where the cluster cannot be reached."""
        self._ray = ray = connect(wish.address, log_to_driver=False)
        auto = wish.address == "auto"
        self._head: str = ray.get_runtime_context().gcs_address if auto else wish.address.removeprefix("ray://")
        self.gpu = wish.device != "cpu" and ray.cluster_resources().get("GPU", 0) >= 1
        passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        # What is lost is begun again by whoever has the registry, not by Ray.
        kind = ray.remote(RemoteAttempt).options(
            num_cpus=wish.threads, num_gpus=1 if self.gpu else 0, max_restarts=0, max_task_retries=0
        )
        self._actor = kind.remote(passed_on)
        self._where = self._actor.place.remote()
        self.node: str | None = None
        self._asked = math.inf  # since when an answer is waited for

    def wait(self, go_on: Callable[[], bool]) -> Place:
        """Waits until there is room.

        Raises:
            NoSeat: `go_on` no longer said so.
            UserError: the node cannot do jobs.
        """
        found: list[Any] = []
        while not found:
            if not go_on():
                raise NoSeat
            self._asked = time.monotonic()
            found, _ = self._ray.wait([self._where], timeout=_WAIT_SECONDS)
            self._asked = math.inf
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
            NodeLost, ProcessLost, ClusterLost: it is gone.
        """
        errors, since = self._ray.exceptions, time.monotonic()
        self._asked = since
        while True:
            try:
                answer = self._ray.get(getattr(self._actor, method).remote(*arguments))
                self._asked = math.inf
                return answer
            except errors.ActorUnavailableError as error:
                if time.monotonic() - since > _AWAY_SECONDS:
                    raise NodeLost(_short(error)) from error
                time.sleep(_WAIT_SECONDS)
            except errors.RayTaskError as error:  # of the method itself, such as a full disk
                raise error.cause from error
            except errors.ActorDiedError as error:
                raise self._what_is_lost()(_short(error)) from error
            except (errors.RayError, ConnectionError) as error:
                raise ClusterLost(_short(error)) from error

    def _what_is_lost(self) -> type[Exception]:
        try:
            alive = {node["NodeID"] for node in self._ray.nodes() if node["Alive"]}
        except (self._ray.exceptions.RayError, ConnectionError):
            return ClusterLost
        return ProcessLost if self.node in alive else NodeLost

    def away(self) -> bool:
        """Whether an answer is overdue, and the cluster's head cannot be reached; may be asked from any thread.

        What Ray does then depends on the kind of address: it waits for a minute and ends the process, or for ever.
        """
        if time.monotonic() - self._asked < _SURE_SECONDS:
            return False
        host, _, port = self._head.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), _SURE_SECONDS).close()
        except OSError:
            return True
        return False

    def tell(self, method: str) -> None:
        """Calls a method of the attempt without waiting for it."""
        getattr(self._actor, method).remote()

    def leave(self) -> None:
        """Gives the room back."""
        self._ray.kill(self._actor)
        self._ray.shutdown()


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[-300:]
