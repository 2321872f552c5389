"""The way in over MCP: a client of the official package, over streamable HTTP."""

from __future__ import annotations

import ast
import asyncio
import base64
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
from mcp import ClientSession, McpError
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult

from lsn_core import Backbone
from tests.corpus.case import Case, Right
from tests.corpus.outcome import Refused, Result, measured
from tests.corpus.tools import DATA, FETCHED, ToolCall
from tests.corpus.ways import CLASSES, PHOTO, App, judged

MOST_PHOTO = 3 * 2**20  # bytes that fit into a message


class Mcp(App):
    """The tools of a running app that serves MCP.

    Args:
        address: of the app.
        process: its number, to measure it by.
        backbone: what its verdicts are held against.
    """

    way = "MCP"

    def __init__(self, address: str, process: int | str, backbone: Backbone, timeout: float = 120) -> None:
        super().__init__(address, process, backbone, timeout)
        self.url = f"{address}/gradio_api/mcp/"
        self.elsewhere, self.asked = _listener()

    def run(self, case: Case) -> Result | None:
        """The result; None for what is not sent over MCP."""
        if case.kind not in ("image", "text", "tool"):
            return None
        given = case.make()
        if case.kind == "image" and len(given) > MOST_PHOTO:
            return None
        result = measured(case, self.way, lambda case: self._ask(case, given), self.process)
        if self.asked:
            return Result(case, self.way, f"{self.asked.pop()} was asked for")
        well = httpx.get(self.client.base_url.join("/healthz"), timeout=20).status_code == 200
        return result if well else Result(case, self.way, "the app is not well afterwards")

    def _ask(self, case: Case, given: Any) -> Any:
        if case.kind == "tool":
            return self._tool(case, given)
        image = _data_url(given) if case.kind == "image" else _data_url(PHOTO.read_bytes())
        try:
            found = self._send(
                ToolCall("score", {"image": image, "classes": CLASSES if case.kind == "image" else given})
            )
        except UnicodeError:  # half a surrogate pair, which no JSON in UTF-8 can carry
            return case.right if not isinstance(case.right, Right) else Refused("It cannot be sent.")
        return found if isinstance(found, Refused | str) else judged(case, found, self.right, self.backbone)

    def _tool(self, case: Case, call: ToolCall) -> Any:
        text = json.dumps(call.arguments).replace(json.dumps(DATA), json.dumps(_data_url(PHOTO.read_bytes())))
        arguments = json.loads(text.replace(FETCHED, self.elsewhere))
        found = self._send(ToolCall(call.name.replace(FETCHED, self.elsewhere), arguments, call.request))
        if "root:" in str(found):
            return "a file of the server came out"
        return found

    def _send(self, call: ToolCall) -> Any:
        # In a thread of its own: Playwright leaves an event loop in the one that ran browser tests before.
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(asyncio.run, self._talk(call)).result()
        if isinstance(answer, Refused):
            return answer
        text = answer.content[0].text
        if answer.isError:
            return Refused(text)
        line = ast.literal_eval(text)  # as Gradio writes it
        return Refused(line["error"]) if line["error"] else line

    async def _talk(self, call: ToolCall) -> CallToolResult | Refused:
        refusals: list[str] = []

        async def note(response: httpx.Response) -> None:
            if response.status_code >= 400:
                refusals.append((await response.aread()).decode())

        client = httpx.AsyncClient(timeout=60, event_hooks={"response": [note]})
        try:
            async with (
                client,
                streamable_http_client(self.url, http_client=client) as (read, write, _),
                ClientSession(read, write) as session,
            ):
                await session.initialize()
                if call.request == "prompts/get":
                    return Refused(str(await session.get_prompt(call.name, call.arguments)))
                if call.request == "resources/read":
                    return Refused(str(await session.read_resource(call.name)))  # type: ignore[arg-type]
                return await session.call_tool(call.name, call.arguments)
        except Exception as group:
            error = group
            while parts := getattr(error, "exceptions", None):  # of the tasks that talk at the same time
                error = parts[0]
            if not isinstance(error, McpError | httpx.HTTPStatusError):
                raise error from group
            return Refused(json.loads(refusals[0])["detail"] if refusals else f"{error}.")


def _data_url(data: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


def _listener() -> tuple[str, list[str]]:
    """The address of a server that nobody should ask for anything, and what it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(f"{self.command} {self.path}")
            self.send_error(404)

        do_HEAD = do_POST = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}", asked
