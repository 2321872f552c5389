"""What every request passes first: which hosts are served, a fair share for each client, headers, health, metrics."""

from __future__ import annotations

import logging
import math
import re
import secrets
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from fastapi.exception_handlers import http_exception_handler
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lsn_app.serving.bodies import BodyRefused, bounded, calls_endpoint, calls_tool, drop_rest
from lsn_app.serving.mcp_tools import FOR, INSIDE
from lsn_app.serving.sessions import Sessions
from lsn_app.settings import LOCAL_HOSTS

log = logging.getLogger("lsn_app.requests")

SHARE = 16  # requests of one client that may wait or run at once, of the 64 that the queue holds
_NAMED = re.compile(r"/gradio_api/(?:call|run|api)/(?:v2/)?([^/]+)/?")
_HEARTBEAT = re.compile(r"/gradio_api/heartbeat/([^/]+)")
DRAIN_SECONDS = 10  # that requests at work get when the server is stopped
_NOT_PARSED = "There was an error parsing the body"  # FastAPI's own words
_PACE = 4  # requests a second, about
# What Gradio's page needs: scripts and styles within the page, pictures as data links. Nothing from elsewhere but the
# script by which a Space tells the frame around it how high the page is.
_POLICY = {
    "default-src": "'self'",
    "script-src": "'self' 'unsafe-inline' 'unsafe-eval' blob: https://cdnjs.cloudflare.com",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: blob:",
    "media-src": "'self' data: blob:",
    "font-src": "'self' data:",
    "connect-src": "'self' data: blob:",
    "worker-src": "'self' blob:",
    "object-src": "'none'",
    "base-uri": "'self'",
    "form-action": "'self'",
}


class FrontDoor:
    """ASGI middleware in front of Gradio's app.

    Args:
        app: what comes next.
        hosts: names and addresses under which the page is served; None for any. A page that answers to any name could
            be read by a foreign page whose own name was made to lead here (DNS rebinding).
        frames: origins that may show the page in a frame, besides itself.
        forwarded: whether a proxy in front tells whose request it is by the first address of X-Forwarded-For.
        share: requests of one client that may wait or run at once.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: Iterable[str] | None = LOCAL_HOSTS,
        frames: Iterable[str] = (),
        forwarded: bool = False,
        share: int = SHARE,
    ) -> None:
        self.app = app
        self.hosts = None if hosts is None else frozenset(host.lower() for host in hosts)
        ancestors = " ".join(("'self'", *frames))
        policy = {**_POLICY, "frame-ancestors": ancestors}
        self.headers = {
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "strict-origin-when-cross-origin",
            "Permissions-Policy": "geolocation=(), microphone=()",
            "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        }
        if ancestors == "'self'":
            self.headers["X-Frame-Options"] = "SAMEORIGIN"
        self.forwarded, self.share = forwarded, share
        self.app_secret = ""  # of the app that is behind, by which its own requests are known
        self._entering: Counter[str] = Counter()  # requests on their way into the queue, by client
        self._tools: Counter[str] = Counter()  # calls over MCP that are not answered yet, by client

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request itself, or passes it on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = False

        async def dressed(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                MutableHeaders(scope=message).update(self.headers)
            await send(message)

        answer = self.answer(scope)
        if answer is not None:
            await answer(scope, receive, dressed)
            return
        client = self.client(Request(scope)) if _asks(scope) else None
        count = self._tools if calls_tool(scope["path"]) else self._entering
        if client is not None:
            scope[FOR] = client
            count[client] += 1
        try:
            length, folder = Headers(scope=scope).get("content-length"), Path(scope["app"].uploaded_file_dir)
            await self.app(scope, await bounded(scope["path"], length, receive, folder), dressed)
        except BodyRefused as refused:
            if refused.rest:
                await drop_rest(receive)
            # What was not read would be the beginning of the next request.
            await _refuse(refused.sentence, refused.status, {"Connection": "close"})(scope, receive, dressed)
        except (
            ValueError,
            LookupError,
            TypeError,
            RecursionError,
        ) as error:  # no UTF-8, nested too deeply, of no known function
            if begun or client is None:
                raise
            log.info("a request that does not fit: %s", repr(error)[:300])
            await _unfit(400)(scope, receive, dressed)
        finally:
            if client is not None:
                count[client] -= 1
                if not count[client]:
                    del count[client]

    def answer(self, scope: Scope) -> Response | None:
        """What is answered here; None for what goes on to the page."""
        path, blocks = scope["path"], scope["app"].get_blocks()
        self.app_secret = blocks.inside
        if path == "/healthz":  # asked by address, whatever the host
            stopping = blocks.draining
            return JSONResponse({"status": "stopping" if stopping else "ok"}, 503 if stopping else 200)
        host = Headers(scope=scope).get("host", "")
        if self.hosts is not None and (urlsplit(f"//{host}").hostname or "").lower() not in self.hosts:
            sentence = "This page is not served under that name. Its host names are set by LSN_HOSTS."
            return PlainTextResponse(f"{sentence}\n", 421)
        if path == "/metrics" and blocks.metrics is not None:
            return cast(Response, blocks.metrics.response(len(blocks.at_work())))
        if beat := _HEARTBEAT.fullmatch(path):
            holder = scope["app"].state_holder
            if isinstance(holder, Sessions):
                holder.greet(beat[1])
        if _asks(scope):
            names = [str(function.api_name) for function in blocks.fns.values() if function.api_visibility == "public"]
            if (named := _NAMED.fullmatch(path)) and named[1] not in (*names, "predict"):
                sentence = f"There is no endpoint {named[1][:60]!r}. There are: {', '.join(names)}."
                return _refuse(sentence, 404)
            if blocks.draining:
                return _busy("The server is being stopped.", DRAIN_SECONDS, 503)
            request = Request(scope)
            client = self.client(request)
            events = [event.request for event in blocks.at_work() if self.client(event.request) == client]
            tools = sum(self._inside(one) for one in events)
            # A call over MCP becomes an event when the MCP server sends it on, and is one still if its caller hangs up.
            waiting = self._entering[client] + len(events) - tools + max(tools, self._tools[client])
            if waiting >= self.share and not self._inside(request):
                if blocks.metrics is not None:
                    blocks.metrics.refused()
                return _busy(f"{waiting} of your requests are at work or wait.", math.ceil(waiting / _PACE), 429)
        return None

    def _inside(self, request: Any) -> bool:
        """Whether the MCP server sent it to its own app, for a caller who was at the door before."""
        told = request.headers.get(INSIDE, "")
        return bool(told) and secrets.compare_digest(told.encode(), self.app_secret.encode())

    def client(self, request: Any) -> str:
        """Whose request it is: an address."""
        if self._inside(request):
            return str(request.headers.get(FOR, ""))
        if self.forwarded and (told := request.headers.get("x-forwarded-for")):
            return str(told).split(",")[0].strip()
        return request.client.host if request.client else ""


async def explain_unfit(request: Request, error: Exception) -> Response:
    """An answer in words to a request whose body is not what an endpoint takes, in place of FastAPI's list of types."""
    if isinstance(error, StarletteHTTPException) and error.detail != _NOT_PARSED:
        return await http_exception_handler(request, error)
    log.info("a request that does not fit: %s", type(error).__name__)
    return _unfit(400 if isinstance(error, StarletteHTTPException) else 422)


def _unfit(status: int) -> Response:
    sentence = "The request does not fit: JSON text in UTF-8 is wanted, as 'Use via API' on the page shows it."
    return _refuse(sentence, status)


def _asks(scope: Scope) -> bool:
    return scope["method"] == "POST" and (calls_endpoint(scope["path"]) or calls_tool(scope["path"]))


def _busy(reason: str, seconds: int, status: int) -> Response:
    return _refuse(f"{reason} Try again in {seconds} s.", status, {"Retry-After": str(seconds)})


def _refuse(sentence: str, status: int, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"detail": sentence, "error": sentence}, status, headers=headers)
