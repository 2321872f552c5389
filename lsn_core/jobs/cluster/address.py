"""Whether jobs can be had done on a cluster, as far as its address and this machine's packages tell."""

from __future__ import annotations

from importlib.util import find_spec

from lsn_core.cluster.address import LOCAL, is_address
from lsn_core.errors import UserError


def check_cluster(address: str, called: str) -> None:
    """Raises UserError for what is no address of a cluster, or where the package ray is missing; connects nowhere.

    Args:
        called: what the address was given as.
    """
    if not is_address(address) or address == LOCAL:
        raise UserError(
            f"{called} must be auto (the cluster this machine is part of), HOST:PORT or ray://HOST:PORT, "
            f"not {address[:80]!r}. Correct it, or leave it out to train on this machine."
        )
    if find_spec("ray") is None:
        raise UserError(
            f'{called}: training on a cluster needs the package ray. Install it: pip install "lsn-core[ray]"'
        )
