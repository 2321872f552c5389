"""Whether the head of a cluster answers; in its place stands a socket."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from lsn_core.cluster.head import ClusterLost, Head
from lsn_core.errors import UserError

LOST = r"^The Ray cluster \(auto\) no longer answers, in the middle of the work\..* start again: with --resume"


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    monkeypatch.setattr("lsn_core.cluster.head._EVERY", 0.05)
    monkeypatch.setattr("lsn_core.cluster.head._GONE_AFTER", 0.4)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@pytest.fixture
def head(listener: socket.socket) -> Head:
    context = SimpleNamespace(gcs_address=f"127.0.0.1:{listener.getsockname()[1]}")
    return Head(SimpleNamespace(get_runtime_context=lambda: context), "auto")


def look_for(head: Head, seconds: float) -> None:
    """Looks again and again."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        head.look()
        time.sleep(0.01)


def test_one_that_answers_is_not_lost(head: Head) -> None:
    look_for(head, 0.6)
    head.look(now=True)
    assert not head.gone


def test_one_that_does_not_answer_for_some_time_is_lost(head: Head, listener: socket.socket) -> None:
    look_for(head, 0.1)
    listener.close()
    started = time.monotonic()
    with pytest.raises(ClusterLost, match=LOST):
        look_for(head, 5.0)
    assert 0.3 < time.monotonic() - started < 4.0 and head.gone


def test_before_ray_is_asked_something_it_is_waited_for(head: Head, listener: socket.socket) -> None:
    listener.close()
    with pytest.raises(ClusterLost, match=LOST):
        head.look(now=True)


def test_time_in_which_nobody_looked_does_not_count(head: Head, listener: socket.socket) -> None:
    listener.close()
    time.sleep(0.6)
    head.look()
    assert not head.gone


def test_of_one_that_was_never_reached_so_nothing_is_concluded(listener: socket.socket) -> None:
    context = SimpleNamespace(gcs_address=f"127.0.0.1:{listener.getsockname()[1]}")
    listener.close()
    head = Head(SimpleNamespace(get_runtime_context=lambda: context), "auto")
    look_for(head, 0.6)
    head.look(now=True)
    with pytest.raises(ConnectionError), head.explained():
        raise ConnectionError
    assert not head.gone


@pytest.mark.parametrize("error", [ConnectionError("Client is shutting down."), UserError("not this photo")])
def test_errors_are_explained_by_the_loss_only_where_there_is_one(
    head: Head, listener: socket.socket, error: Exception
) -> None:
    with pytest.raises(type(error), match=str(error)), head.explained():
        raise error
    listener.close()
    told = LOST if isinstance(error, ConnectionError) else str(error)
    with pytest.raises(UserError, match=told), head.explained():
        raise error
