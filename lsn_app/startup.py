"""What the environment asks of the app, read and tried before anything large is imported or loaded."""

from __future__ import annotations

import errno
import math
import os
import re
import socket
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from lsn_core.errors import UserError
from lsn_core.jobs import DEFAULT_FOLDER, JobLimits
from lsn_core.jobs.cluster.address import MOST_JOBS, check_cluster, check_ray
from lsn_core.jobs.storage.damage import set_damaged_aside
from lsn_core.jobs.worker.memory import check_watchable
from lsn_core.jobs.worker.queue import QUEUE_FILE
from lsn_core.shipped import EMBEDDED

LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")
PORT = 7860
_YES, _NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
_SUBFOLDERS = ("jobs", "datasets", "features", "workers", "tmp", "huggingface", "torch", "matplotlib")
_QUEUES = ("redis", "rediss", "unix")


@dataclass(frozen=True)
class Startup:
    """The environment's answers, each of a form that can be used.

    Attributes:
        host, port: where to listen.
        data: the data directory, absolute.
        backbone: name of the backbone to begin with; whether it can be had is seen when it is loaded.
        public: whether strangers use the page.
        queue: address of a Redis server, or None for SQLite.
        cluster, cluster_jobs: address of the Ray cluster on which jobs are done, and most at once; or None.
        hosts: names under which the page is served; empty where none are set.
        threads, memory_gib: bounds of a job, or None.
        resume: whether interrupted jobs go on by themselves.
        slice_seconds: on ZeroGPU, how long a job has the GPU at a time; None for the default.
        mcp, proxied, metrics: as docs/environment.md has them.
        space, space_id: a Hugging Face Space's address and name, or empty.
    """

    host: str
    port: int
    data: Path
    backbone: str
    public: bool
    queue: str | None
    cluster: str | None
    cluster_jobs: int | None
    hosts: tuple[str, ...]
    threads: int | None
    memory_gib: float | None
    resume: bool
    slice_seconds: float | None
    mcp: bool
    proxied: bool
    metrics: bool
    space: str
    space_id: str


def read_environment(environment: Mapping[str, str]) -> Startup:
    """Reads all variables that the app knows; nothing is tried yet.

    Raises:
        UserError: a variable has a value that cannot be meant; names it, what it may be, and what it is.
    """
    host = environment.get("GRADIO_SERVER_NAME", "").strip() or "127.0.0.1"
    if "/" in host or re.fullmatch(r"[^:]*:\d+", host):
        raise UserError(
            f"GRADIO_SERVER_NAME must be a name or an address alone, such as 127.0.0.1 or 0.0.0.0, not {host[:80]!r}. "
            "The port is GRADIO_SERVER_PORT's."
        )
    space = environment.get("SPACE_HOST", "").strip()
    threads = _number(environment, "LSN_JOB_THREADS", whole=True, least=1, most=4096)
    at_once = _number(environment, "LSN_CLUSTER_JOBS", whole=True, least=1, most=MOST_JOBS)
    return Startup(
        host=host,
        port=int(_number(environment, "GRADIO_SERVER_PORT", whole=True, least=1, most=65_535) or PORT),
        data=_data_folder(environment),
        backbone=environment.get("LSN_BACKBONE", "").strip() or EMBEDDED,
        public=_flag(environment, "LSN_PUBLIC", host not in LOCAL_HOSTS),
        queue=_queue(environment),
        cluster=_cluster(environment),
        cluster_jobs=None if at_once is None else int(at_once),
        hosts=_hosts(environment, space),
        threads=None if threads is None else int(threads),
        memory_gib=_number(environment, "LSN_JOB_MEMORY_GIB", above=0.0),
        resume=_flag(environment, "LSN_RESUME", True),
        slice_seconds=_number(environment, "LSN_SLICE_SECONDS", above=0.0),
        mcp=_flag(environment, "LSN_MCP", False),
        proxied=_flag(environment, "LSN_PROXIED", bool(space)),
        metrics=_flag(environment, "LSN_METRICS", False),
        space=space,
        space_id=environment.get("SPACE_ID", "").strip(),
    )


def check_startup(start: Startup) -> list[str]:
    """Tries the port, the data directory, its limits and its jobs.

    Returns:
        Sentences on what was set aside, as a damaged list of jobs is.

    Raises:
        UserError: the app cannot run so; one sentence on what is in its way and what to do.
    """
    check_watchable(start.memory_gib)
    if start.cluster is not None:
        check_ray("LSN_CLUSTER")
    check_port(start.host, start.port)
    check_folder(start.data)
    JobLimits.read(start.data)
    return set_damaged_aside(start.data, QUEUE_FILE)


def check_port(host: str, port: int) -> None:
    """Raises UserError where nothing can listen there."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise UserError(f"GRADIO_SERVER_NAME: no machine is called {host!r}. Use 127.0.0.1 or 0.0.0.0.") from error
    try:
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server: what just ended is no obstacle
            probe.bind(address)
            probe.listen(1)
    except PermissionError as error:
        raise UserError(
            f"Port {port} may not be used by this user: set GRADIO_SERVER_PORT to one from 1024 on, such as {PORT}."
        ) from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(
                f"Port {port} of {host} is taken by another program, perhaps this app: end that one, or set "
                f"GRADIO_SERVER_PORT to a free one{_free_port(host, port)}."
            ) from error
        raise UserError(
            f"GRADIO_SERVER_NAME: {host!r} is no address of this machine ({error.strerror}). Use 127.0.0.1 or 0.0.0.0."
        ) from error


def check_folder(folder: Path) -> None:
    """Makes the data directory where it is missing; raises UserError where that fails or it cannot be written to."""
    way = "Set LSN_DATA to a folder that can be written to."
    for path in (folder, *(folder / name for name in _SUBFOLDERS)):
        if path.exists() and not path.is_dir():
            raise UserError(f"{path} is a file, and a folder is needed there. {way}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"tried")
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"The data directory {folder} cannot be written to ({reason}). {way}") from error
    for name in _SUBFOLDERS:
        if (folder / name).is_dir() and not os.access(folder / name, os.W_OK | os.X_OK):
            raise UserError(
                f"{folder / name} cannot be written to. Check its owner and permissions, or change LSN_DATA."
            )


def _free_port(host: str, port: int) -> str:
    for other in range(port + 1, min(port + 20, 65_536)):
        try:
            with socket.create_server((host, other), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
                return f", such as {other}"
        except OSError:
            continue
    return ""


def _data_folder(environment: Mapping[str, str]) -> Path:
    text = environment.get("LSN_DATA", "").strip()
    if "\0" in text or re.match(r"\w+://", text):
        raise UserError(f"LSN_DATA must be a folder of this machine, not {text!r}.")
    try:
        return Path(text).expanduser().absolute() if text else DEFAULT_FOLDER
    except RuntimeError as error:  # ~nobody
        raise UserError(f"LSN_DATA: the home of {text!r} is not known. Write the whole path.") from error


def _number(
    environment: Mapping[str, str],
    name: str,
    *,
    whole: bool = False,
    least: float | None = None,
    above: float | None = None,
    most: float = math.inf,
) -> float | None:
    text = environment.get(name, "").strip()
    if not text:
        return None
    bounds = (
        f"above {above:g}" if above is not None else f"from {least or 0:g}" + (f" to {most:g}" if most < 1e9 else "")
    )
    wanted = f"{name} must be a {'whole ' if whole else ''}number {bounds}, not {text[:40]!r}."
    try:
        value = int(text) if whole else float(text)
    except ValueError as error:
        raise UserError(f"{wanted} Correct it, or leave it out.") from error
    low = value <= above if above is not None else value < (least or 0)
    if low or not value <= most or not math.isfinite(value):
        raise UserError(f"{wanted} Correct it, or leave it out.")
    return value


def _flag(environment: Mapping[str, str], name: str, default: bool) -> bool:
    text = environment.get(name, "").strip()
    if not text:
        return default
    if text.lower() not in (*_YES, *_NO):
        raise UserError(f"{name} must be 1 (yes) or 0 (no), not {text[:40]!r}.")
    return text.lower() in _YES


def _queue(environment: Mapping[str, str]) -> str | None:
    text = environment.get("LSN_QUEUE", "").strip()
    if not text:
        return None
    try:
        address = urlsplit(text)
        fine = address.scheme in _QUEUES and bool(address.path if address.scheme == "unix" else address.hostname)
        _ = address.port  # raises for words, and above 65535
    except ValueError:
        fine = False
    if not fine:
        raise UserError(f"LSN_QUEUE must be redis://HOST:PORT/DB, or be left out for SQLite, not {text[:80]!r}.")
    return text


def _cluster(environment: Mapping[str, str]) -> str | None:
    text = environment.get("LSN_CLUSTER", "").strip()
    if text:
        check_cluster(text, "LSN_CLUSTER")
    return text or None


def _hosts(environment: Mapping[str, str], space: str) -> tuple[str, ...]:
    names = [name.strip() for name in (environment.get("LSN_HOSTS", "").strip() or space).split(",")]
    for name in filter(None, names):
        if re.search(r"[/\s*?@]", name) or re.fullmatch(r"[^:]*:\d+", name):
            raise UserError(
                f"LSN_HOSTS must be names alone, with commas between them, such as example.org, not {name[:80]!r}."
            )
    return tuple(filter(None, names))
