"""Gradio's MCP server as a public server needs it: arguments are checked, and answers say what was wrong."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

from lsn_app.endpoints import check_named
from lsn_core import UserError

log = logging.getLogger("lsn_app.requests")

INSIDE, FOR = "x-lsn-inside", "x-lsn-for"
"""Headers of requests that the MCP server sends to its own app: the secret that shows it, and whose request it is."""

_LONGEST = 1000  # letters of a refusal
_UNCLEAR = re.compile(r"https?://|Traceback|[\x00-\x1f\x7f-\x9f]")  # what Gradio's client says about its own requests


def guard_tools(server: Any, inside: str) -> None:
    """Makes an MCP server check arguments itself, say clearly what is wrong, and offer nothing but tools.

    Args:
        server: Gradio's, as `gradio.mcp.GradioMCPServer` makes it.
        inside: the secret that its requests to the app are known by.
    """
    from mcp import types  # an extra, which is there where there is a server

    handlers = server.mcp_server.request_handlers
    # security: there are no prompts and resources here, and Gradio's way to an unknown prompt is to call some endpoint
    # with what was sent.
    for request in (
        types.ListPromptsRequest,
        types.GetPromptRequest,
        types.ListResourcesRequest,
        types.ListResourceTemplatesRequest,
        types.ReadResourceRequest,
    ):
        handlers.pop(request, None)
    call, prepare = handlers[types.CallToolRequest], server._prepare_tool_call_args

    async def checked(request: Any) -> Any:
        try:
            check_call(server, request.params.name, request.params.arguments or {})
        except UserError as error:
            return refusal(str(error))
        answer = await call(request)
        if answer.root.isError:
            sentence = " ".join(part.text for part in answer.root.content if part.type == "text")
            if len(sentence) > _LONGEST or _UNCLEAR.search(sentence):
                log.warning("a tool could not answer: %s", sentence[:_LONGEST])
                return refusal("The server could not answer, as it is busy or being stopped. Try again later.")
        return answer

    def refusal(sentence: str) -> Any:
        said = types.TextContent(type="text", text=sentence)
        return types.ServerResult(types.CallToolResult(content=[said], isError=True))

    def prepared(name: str, arguments: dict[str, Any]) -> Any:
        endpoint, values, headers, function = prepare(name, arguments)
        asked = server.mcp_server.request_context.request
        headers = {key: value for key, value in headers.items() if key.lower() not in (INSIDE, FOR)}
        headers |= {INSIDE: inside, FOR: asked.scope.get(FOR, "")}
        return endpoint, values, headers, function

    handlers[types.CallToolRequest] = checked
    server._prepare_tool_call_args = prepared


def check_call(server: Any, name: str, arguments: Mapping[str, Any]) -> None:
    """Raises UserError for a tool that is not there, or arguments that it does not take."""
    endpoint = server.tool_to_endpoint.get(name)
    if endpoint is None:
        raise UserError(f"There is no tool {name[:60]!r}. There are: {', '.join(server.tool_to_endpoint)}.")
    check_named(server.get_block_fn_from_endpoint_name(endpoint).fn, arguments)
