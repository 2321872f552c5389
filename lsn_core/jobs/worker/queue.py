"""Huey hands out wake-up calls; which job they are for, the registry decides."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from huey import Huey, RedisHuey, SqliteHuey
from huey.consumer import Consumer
from huey.registry import Message
from huey.serializer import Serializer

from lsn_core.errors import UserError

log = logging.getLogger(__name__)

QUEUE_FILE = "queue.sqlite"
_LONGEST_SLEEP = 0.5
_CONNECT_SECONDS = 2.0
# Huey knows a task by module and name: calls that an earlier version queued are still answered, and vice versa.
_TASK_MODULE = "lsn_core.jobs.queue"


class JobQueue:
    """The queue of one data directory: in an SQLite file of its own, or on a Redis server.

    A lost call costs nothing but time, and one too many finds no job: so neither a kill nor a full disk can lose a job.
    """

    def __init__(self, folder: Path, url: str | None = None, work: Callable[[], None] | None = None) -> None:
        """Opens the queue.

        Args:
            url: redis://HOST:PORT/DB, or None for SQLite.
            work: what a worker does when called; None for a side that only calls.

        Raises:
            UserError: the address is none of a Redis server, or the package redis is not installed.
        """
        name = f"lsn-{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]}"  # one server may serve several
        options: dict[str, Any] = {"results": False, "serializer": _Json(), "utc": True}
        if url is None:
            self._huey: Huey = SqliteHuey(name, filename=str(folder / QUEUE_FILE), **options)
        elif url.startswith(("redis://", "rediss://", "unix://")):
            if find_spec("redis") is None:
                raise UserError(
                    f"{url} needs the package redis: pip install redis, or leave the address out for SQLite."
                )
            self._huey = RedisHuey(name, connection_pool=_connections(url), **options)
        else:
            raise UserError(f"{url!r} is no address of a Redis server. Write redis://HOST:PORT/DB.")

        def answer() -> None:
            assert work is not None, "this side of the queue only calls"
            work()

        answer.__module__ = _TASK_MODULE
        self._call = self._huey.task()(answer)

    def reachable(self) -> bool:
        """Whether the queue's server answers."""
        try:
            self.pending()
        except Exception as error:
            log.info("The queue cannot be reached (%s).", error)
            return False
        return True

    def pending(self) -> int:
        """Calls that no worker has taken yet."""
        return int(self._huey.pending_count())

    def call(self, times: int = 1) -> None:
        """Calls a worker, for one job or more. A queue that cannot be reached is logged: `top_up` makes up for it."""
        try:
            for _ in range(times):
                self._call()
        except Exception as error:  # of sqlite3, of redis, of Huey
            log.warning("No worker could be called (%s); it will be tried again.", error)

    def top_up(self, jobs: int) -> None:
        """Makes sure that there are as many calls as jobs."""
        try:
            missing = jobs - self.pending()
        except Exception as error:
            log.warning("The queue cannot be reached (%s); it will be tried again.", error)
            return
        self.call(missing)

    def consumer(self) -> Consumer:
        """Huey's consumer with one thread, as a worker does one job at a time."""
        return self._huey.create_consumer(workers=1, periodic=False, max_delay=_LONGEST_SLEEP)

    def answer(self) -> bool:
        """Answers a call in this thread, which a consumer would do in one of its own; False where nobody calls."""
        try:
            task = self._huey.dequeue()
        except Exception as error:
            log.warning("The queue cannot be reached (%s); it will be tried again.", error)
            return False
        if task is not None:
            self._huey.execute(task)
        return task is not None

    def close(self) -> None:
        """Closes the connection."""
        self._huey.storage.close()


def _connections(url: str) -> Any:
    """Connections that say at once when the server is gone: the package's own tries take ten seconds a call."""
    from redis import ConnectionPool
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return ConnectionPool.from_url(url, retry=Retry(NoBackoff(), 1), socket_connect_timeout=_CONNECT_SECONDS)


class _Json(Serializer):
    # security: Huey's own is pickle, which would let anybody who can write to the queue run code in the worker.
    def _serialize(self, data: Message) -> bytes:
        return json.dumps([data.id, data.name]).encode()

    def _deserialize(self, data: bytes) -> Message:
        task_id, name = json.loads(data)
        return Message(task_id, name, retries=0, retry_delay=0, args=(), kwargs={})
