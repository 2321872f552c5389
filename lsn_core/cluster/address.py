"""Which Ray cluster to work on, and how to be connected to it: quietly, without telemetry, with errors that help."""

from __future__ import annotations

import importlib
import logging
import os
import re
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lsn_core.errors import UserError

log = logging.getLogger(__name__)

LOCAL = "local"
"""The address of a Ray of this process's own, which ends with it."""
FORMS = "auto (the cluster this machine is part of), local, HOST:PORT or ray://HOST:PORT"

_ADDRESS = re.compile(r"(?:ray://)?(?P<host>\[[0-9a-fA-F:]+\]|[\w.\-]+):(?P<port>\d{1,5})")
_PATIENCE = 5.0  # seconds for a port to answer
# security: nobody was asked whether their cluster may be counted, nor are they to be asked on a terminal.
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_USAGE_STATS_PROMPT_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # or it warns of a change to come, at each start
    "RAY_ENABLE_AUTO_CONNECT": "0",  # or it starts a Ray on this machine where a cluster is lost
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # workers run in what is installed, and nothing is uploaded to them
}


def is_address(text: str) -> bool:
    """Whether a text has the form of an address of a cluster: one of `FORMS`."""
    return text in (LOCAL, "auto") or _ADDRESS.fullmatch(text) is not None


def chosen_address(address: str | None) -> str:
    """The address to connect to: the one given, or that of RAY_ADDRESS, or `LOCAL`.

    Raises:
        UserError: it has none of the `FORMS`.
    """
    where = "RAY_ADDRESS" if not address else "The address of the cluster"
    chosen = (address or os.environ.get("RAY_ADDRESS", "")).strip() or LOCAL
    if not is_address(chosen):
        raise UserError(f"{where} is {chosen[:80]!r}, which is none. Give {FORMS}.")
    return chosen


def import_ray() -> Any:
    """The package ray, imported without telemetry. Raises UserError where it is not installed."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise UserError('A Ray cluster needs the package ray. Install it: pip install "lsn-core[ray]"') from error


def connect(address: str | None = None, **options: Any) -> Any:
    """Connects this process to a cluster; one that is connected already stays where it is.

    Args:
        address: one of `FORMS`; None for the cluster of RAY_ADDRESS, or else a Ray of this process's own. That of
            somebody else who happens to use this machine is never taken unasked.
        options: further arguments of `ray.init`, such as num_cpus for a Ray of this process's own.

    Returns:
        The module ray, connected; `ray.shutdown()` ends it, and with it a Ray of this process's own.

    Raises:
        UserError: ray is not installed, the address is none, nothing answers there, or what answers is another version.
    """
    chosen = chosen_address(address)
    ray = import_ray()
    if ray.is_initialized():
        return ray
    if chosen not in (LOCAL, "auto"):
        _check_answers(chosen)
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}  # what it tells goes to stdout
    if chosen == LOCAL:
        quiet["include_dashboard"] = False
    try:
        ray.init(address=chosen, **(quiet | options))
    except ImportError as error:  # ray:// needs gRPC
        raise UserError(
            f'{chosen}: this kind of address needs a package that is not installed ({error}): pip install "ray[client]"'
        ) from error
    except (ConnectionError, RuntimeError, ValueError, OSError, TimeoutError) as error:
        text = str(error).strip()  # of ray:// it may be a traceback of the cluster's, whose last line says why
        reason = " ".join((text.splitlines()[-1] if "Traceback" in text else text).split())[:300]
        raise UserError(
            f"{chosen}: there is no Ray cluster to be had at this address ({reason}). Check the address, that the "
            "cluster runs (ray status), and that its versions of Python and Ray are those of this machine. One that "
            "wants a token gets it with RAY_AUTH_MODE=token and RAY_AUTH_TOKEN."
        ) from error
    _keep_off_stdout()
    return ray


_users = 0  # of the connection that `connected` has made
_alone = threading.RLock()


@contextmanager
def connected(address: str | None = None, **options: Any) -> Iterator[Any]:
    """`connect`, for as long as anybody in this process needs it; a connection that was there before outlives it."""
    global _users
    ray = import_ray()
    with _alone:
        ours = _users > 0 or not ray.is_initialized()
        connect(address, **options)
        _users += ours
    try:
        yield ray
    finally:
        with _alone:
            _users -= ours
            if ours and not _users:
                ray.shutdown()


def _keep_off_stdout() -> None:
    """Ray prints what its machines say of dead workers, whatever it is told: between the lines that programs read."""
    module = sys.modules.get("ray._private.worker")
    if hasattr(module, "print_to_stdstream"):
        setattr(module, "print_to_stdstream", _tell)  # noqa: B010 - a name of its own that nobody promises


def _tell(data: dict[str, Any], ignore_prefix: bool = False) -> None:
    log.info("Ray: %s", " ".join(map(str, data.get("lines", ()))))


def _check_answers(address: str) -> None:
    """Ray itself tries for a minute, and then may end the process."""
    found = _ADDRESS.fullmatch(address)
    assert found is not None
    host, port = found["host"].strip("[]"), int(found["port"])
    try:
        with socket.create_connection((host, port), _PATIENCE):
            pass
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"{address}: nothing answers there ({reason}). Check the address and that the cluster runs; ray start "
            "--head starts one, at port 6379, and at 10001 for ray://."
        ) from error
