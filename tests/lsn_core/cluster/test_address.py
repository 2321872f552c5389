"""Addresses of clusters, and the sentences where there is none."""

from __future__ import annotations

import socket
import sys

import pytest

from lsn_core.cluster.address import chosen_address, connect, connected, import_ray, is_address
from lsn_core.errors import UserError


@pytest.mark.parametrize(
    "text", ["auto", "local", "10.0.0.1:6379", "ray://head:10001", "head.example.org:6379", "[::1]:6379"]
)
def test_addresses_are_known_by_their_form(text: str) -> None:
    assert is_address(text)


@pytest.mark.parametrize(
    "text", ["", "photos/", "photos", "s3://bucket/photos", "http://head:8265", "head", "a.jpg", "C:\\photos"]
)
def test_photos_are_no_address(text: str) -> None:
    assert not is_address(text)


def test_without_an_address_ray_address_counts_and_else_a_ray_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert chosen_address(None) == "local"
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert chosen_address(None) == "head:6379"
    assert chosen_address("ray://other:10001") == "ray://other:10001"
    monkeypatch.setenv("RAY_ADDRESS", "http://head:8265")
    with pytest.raises(UserError, match=r"RAY_ADDRESS is 'http://head:8265', which is none. Give auto"):
        chosen_address(None)


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_where_nothing_answers_it_is_said_at_once(form: str) -> None:
    with socket.socket() as taken:  # bound, but it listens to nobody
        taken.bind(("127.0.0.1", 0))
        address = form.format(taken.getsockname()[1])
        with pytest.raises(UserError, match=f"{address}: nothing answers there"):
            connect(address)


def test_without_ray_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r'pip install "lsn-core\[ray\]"'):
        connect("local")


def test_ray_is_imported_without_its_counting_of_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    import_ray()
    from ray._common.usage import usage_lib

    assert not usage_lib.usage_stats_enabled()


class Unconnected:
    """Stands in for the module ray."""

    def __init__(self) -> None:
        self.is_connected, self.shutdowns = False, 0

    def is_initialized(self) -> bool:
        return self.is_connected

    def init(self, **_: object) -> None:
        self.is_connected = True

    def shutdown(self) -> None:
        self.is_connected = False
        self.shutdowns += 1


def test_a_connection_ends_with_the_last_who_uses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = Unconnected()
    monkeypatch.setattr("lsn_core.cluster.address.import_ray", lambda: ray)
    first, second = connected("local"), connected("local")
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert ray.is_connected
    assert not second.__exit__(KeyError, KeyError(), None)
    assert not ray.is_connected and ray.shutdowns == 1


def test_a_connection_that_was_there_before_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = Unconnected()
    ray.init()
    monkeypatch.setattr("lsn_core.cluster.address.import_ray", lambda: ray)
    with connected("local"), connected("local"):
        pass
    assert ray.is_connected
