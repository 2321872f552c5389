"""Whether jobs can be had done on a cluster, and the sentences where they cannot."""

from __future__ import annotations

import socket

import pytest

from lsn_core.errors import UserError
from lsn_core.jobs.cluster.address import check_cluster, check_ray, describe_cluster


@pytest.mark.parametrize("address", ["auto", "10.0.0.1:6379", "ray://head.example.org:10001"])
def test_addresses_of_clusters(address: str) -> None:
    check_cluster(address, "LSN_CLUSTER")


@pytest.mark.parametrize("address", ["local", "head", "http://head:8265", "s3://bucket"])
def test_what_is_no_cluster_is_refused_by_name(address: str) -> None:
    with pytest.raises(UserError, match=r"--cluster must be auto .*, HOST:PORT or ray://HOST:PORT, not "):
        check_cluster(address, "--cluster")


def test_without_ray_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    check_ray("LSN_CLUSTER")
    monkeypatch.setattr("lsn_core.jobs.cluster.address.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'LSN_CLUSTER: .* Install it: pip install "lsn-core\[ray\]"'):
        check_ray("LSN_CLUSTER")


def test_where_no_cluster_answers_it_is_said_and_nothing_is_raised() -> None:
    with socket.socket() as taken:  # bound, but it listens to nobody
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert f"{address}: nothing answers there" in describe_cluster(address)
