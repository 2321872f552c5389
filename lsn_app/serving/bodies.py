"""How much of a request's body is read, before any of it becomes values."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import anyio
from starlette.formparsers import MultiPartException
from starlette.types import Message, Receive

MAX_UPLOAD = 513 * 2**20
"""Bytes of one upload: the largest file that is taken, and what is said about it."""

MAX_CALL = 8 * 2**20
"""Bytes of a call of an endpoint; files are uploaded before."""

MAX_TOOL_CALL = 4 * 2**20
"""Bytes of a message over MCP, with its photo. As much as the MCP server itself reads."""

MAX_OTHER = 2**16
MAX_VALUES = 500_000
"""Values in a body. `[],` takes three bytes as text and two hundred once it was read, checked and copied."""

MAX_SECONDS = 60.0  # that a body may be on its way
_MAX_DROPPED, _DROP_SECONDS = 64 * 2**20, 10.0  # of a refused body that are read to its end
_FREE = 256 * 2**20  # bytes of disk that are left to others
_VALUES = (b",", b"[", b"{")
_UPLOAD, _TOOLS = re.compile(r"/gradio_api/upload/?"), re.compile(r"/gradio_api/mcp(?:/.*)?")
_CALL = re.compile(r"/gradio_api/(?:queue/join|call/.+|run/.+|api/.+)/?")


class BodyRefused(Exception):
    """A body that is not read on.

    Attributes:
        sentence: why, and what to do.
        status: of HTTP.
        rest: whether more of it is on its way.
    """

    rest = True

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        self.sentence, self.status = sentence, status


def calls_endpoint(path: str) -> bool:
    """Whether a path is one where an endpoint or a function of the page is called."""
    return _CALL.fullmatch(path) is not None


def calls_tool(path: str) -> bool:
    """Whether a path is the one of the MCP server."""
    return _TOOLS.fullmatch(path) is not None


async def bounded(path: str, length: str | None, receive: Receive, folder: Path) -> Receive:
    """Reads a body as far as it may go; uploads, which are written to disk as they come, are counted on their way.

    Args:
        path: of the request.
        length: of the body, as its header says; None where it does not.
        receive: gives the parts of the body.
        folder: where uploads are written to.

    Returns:
        What gives the body again.

    Raises:
        BodyRefused: it is too large, of too many values, too slow, or no JSON where the MCP server wants some.
    """
    upload = _UPLOAD.fullmatch(path) is not None
    limit = MAX_UPLOAD if upload else _limit(path)
    told = int(length) if length is not None and re.fullmatch("[0-9]{1,19}", length) else 0
    if told > limit:
        raise _too_large(path, limit)
    if upload:
        _check_room(folder, told)
        return _counted(receive, limit)
    parts: list[bytes] = []
    size = values = 0
    more = True
    try:
        with anyio.fail_after(MAX_SECONDS):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    return _again(message, receive)
                part: bytes = message.get("body", b"")
                more = message.get("more_body", False)
                size += len(part)
                values += sum(part.count(sign) for sign in _VALUES)
                if size > limit:
                    raise _too_large(path, limit)
                if values > MAX_VALUES:
                    raise BodyRefused(f"The request has more than {MAX_VALUES:,} values. Send fewer at a time.", 413)
                parts.append(part)
                if not more:
                    break
        body = b"".join(parts)
        if calls_tool(path) and body:
            check_json(body)
    except BodyRefused as refused:
        refused.rest = more
        raise
    except TimeoutError as error:
        raise BodyRefused(f"The request did not come within {MAX_SECONDS:.0f} s. Try again.", 408) from error
    return _again({"type": "http.request", "body": body, "more_body": False}, receive)


async def drop_rest(receive: Receive) -> None:
    """Reads what is left of a refused body, and keeps nothing: many clients look for an answer when all is sent."""
    size, more = 0, True
    with anyio.move_on_after(_DROP_SECONDS):
        while more and size < _MAX_DROPPED:
            message = await receive()
            more = message["type"] == "http.request" and message.get("more_body", False)
            size += len(message.get("body", b""))


def check_json(body: bytes) -> None:
    """Raises BodyRefused for what is no JSON object, or nested more deeply than can be read."""
    try:
        fine = isinstance(json.loads(body), dict)
    except (ValueError, RecursionError):
        fine = False
    if not fine:
        raise BodyRefused("The request does not fit: a JSON-RPC message of MCP in UTF-8 is wanted.", 400)


def _limit(path: str) -> int:
    if calls_tool(path):
        return MAX_TOOL_CALL
    return MAX_CALL if calls_endpoint(path) else MAX_OTHER


def _too_large(path: str, limit: int) -> BodyRefused:
    size = f"{limit / 2**20:.3g} MiB"
    if calls_tool(path):
        return BodyRefused(f"A message over MCP may have {size}, so a photo 3 MB. Send a smaller one.", 413)
    if calls_endpoint(path):
        return BodyRefused(f"A call may have {size}. Upload files, and send the path that the upload gives.", 413)
    return BodyRefused(f"The request has more than the {size} that are read of it. Send less.", 413)


def _check_room(folder: Path, size: int) -> None:
    while not folder.exists():
        folder = folder.parent
    if shutil.disk_usage(folder).free < size + _FREE:
        raise BodyRefused("The server's disk is nearly full, so nothing can be uploaded now. Try again later.", 507)


def _again(message: Message, receive: Receive) -> Receive:
    waiting = [message]

    async def give() -> Message:
        return waiting.pop() if waiting else await receive()

    return give


def _counted(receive: Receive, limit: int) -> Receive:
    size = 0

    async def give() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > limit:
            raise MultiPartException(f"An upload may have {limit >> 20} MiB. Send less at a time.")
        return message

    return give
