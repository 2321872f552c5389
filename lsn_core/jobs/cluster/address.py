"""Whether jobs can be had done on a cluster, as far as its address and this machine's packages tell."""

from __future__ import annotations

from importlib.util import find_spec

from lsn_core.cluster.address import LOCAL, connected, is_address
from lsn_core.errors import UserError

MOST_JOBS = 64
"""Most jobs at once: each has a process on the machine that submits it."""


def check_cluster(address: str, called: str) -> None:
    """Raises UserError for what is no address of a cluster.

    Args:
        called: what the address was given as.
    """
    if not is_address(address) or address == LOCAL:
        raise UserError(
            f"{called} must be auto (the cluster this machine is part of), HOST:PORT or ray://HOST:PORT, "
            f"not {address[:80]!r}. Correct it, or leave it out to train on this machine."
        )


def check_ray(called: str) -> None:
    """Raises UserError where the package ray is missing.

    Args:
        called: what asks for it.
    """
    if find_spec("ray") is None:
        raise UserError(
            f'{called}: training on a cluster needs the package ray. Install it: pip install "lsn-core[ray]"'
        )


def describe_cluster(address: str) -> str:
    """How many nodes, GPUs and CPUs the cluster at an address has just now; why not, where it cannot be used."""
    try:
        check_cluster(address, "LSN_CLUSTER")
        check_ray("LSN_CLUSTER")
        with connected(address, log_to_driver=False) as ray:
            nodes, has = sum(node["Alive"] for node in ray.nodes()), ray.cluster_resources()
    except UserError as error:
        return str(error)
    return f"{address}: {nodes} nodes, {has.get('GPU', 0):g} GPUs, {has.get('CPU', 0):g} CPUs"
