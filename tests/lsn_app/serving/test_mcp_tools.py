"""An MCP client's share of the queue, and what of the protocol is offered."""

from __future__ import annotations

import base64
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from support import until

from lsn_app import Settings, build_app, launch_options
from lsn_app.serving.blocks import GuardedBlocks
from lsn_app.serving.front_door import SHARE
from lsn_app.serving.mcp_tools import FOR, INSIDE

HEADERS = {"Accept": "application/json, text/event-stream"}


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[GuardedBlocks, str]]:
    """A page behind a proxy that serves MCP."""
    settings = Settings(proxied=True)
    page = build_app(settings)
    _, address, _ = page.launch(
        server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, **launch_options(settings, mcp=True)
    )
    yield page, f"{address.rstrip('/')}/gradio_api/mcp/"
    page.close()


def post(url: str, method: str, parameters: Any, client: str = "203.0.113.1", **headers: str) -> httpx.Response:
    """The answer to one message of the protocol."""
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
    return httpx.post(url, json=message, headers={**HEADERS, "X-Forwarded-For": client, **headers}, timeout=90)


def test_a_caller_of_tools_has_a_share_and_others_are_served_beside(
    served: tuple[GuardedBlocks, str], examples: Path
) -> None:
    page, url = served
    release = threading.Event()
    (part,) = [fn for fn in page.fns.values() if fn.api_name == "probe"]
    plain = part.fn

    def slow(image: Any, texts: list[str]) -> Any:
        release.wait(60)
        return plain(image, texts)

    photo = f"data:image/jpeg;base64,{base64.b64encode((examples / 'zebra.jpg').read_bytes()).decode()}"
    call = {"name": "probe", "arguments": {"image": photo, "texts": ["a dog", "a cat"]}}
    part.fn = slow
    try:
        with ThreadPoolExecutor(SHARE + 10) as pool:
            # Whoever says that they are the app itself, or somebody else, is still who they are.
            passing = {INSIDE: "x", FOR: "198.51.100.9"}
            begun = [pool.submit(post, url, "tools/call", call, "203.0.113.7", **passing) for _ in range(SHARE + 6)]
            until(lambda: sum(one.done() for one in begun) >= 6)
            early = [one for one in begun if one.done()]
            assert post(url, "tools/list", {}, "203.0.113.8").status_code == 200
            release.set()
            statuses = Counter(one.result().status_code for one in begun)
        assert statuses == {200: SHARE, 429: 6} and len(early) == 6
        refused = early[0].result()
        assert int(refused.headers["Retry-After"]) > 0 and "Try again" in refused.json()["detail"]
        answered = [one.result().text for one in begun if one.result().status_code == 200]
        assert all("a dog" in text and '"isError":false' in text for text in answered)
    finally:
        part.fn = plain
        release.set()


@pytest.mark.parametrize("method", ["prompts/list", "prompts/get", "resources/list", "resources/read"])
def test_there_is_nothing_but_tools(served: tuple[GuardedBlocks, str], method: str) -> None:
    parameters = {"name": "heatmap", "uri": "file:///etc/passwd", "arguments": {"image": "/etc/passwd"}}
    assert "Method not found" in post(served[1], method, parameters).text


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({}, "image is missing"),
        ({"image": 5}, "image must be a photo as a data URL"),
        ({"image": "/etc/passwd"}, "image must be a photo as a data URL"),
        ({"image": "data:,", "classes": ["dog"]}, "classes must be a text, not list"),
        ({"image": "data:,", "tpr": "0.9"}, "tpr must be a number, not str"),
        ({"image": "data:,", "tpr": True}, "tpr must be a number, not bool"),
        ({"image": "data:,", "y" * 5000: 1}, "There is no parameter"),
        ({"image": "http://169.254.169.254/x"}, "web addresses are not fetched"),
        ({"image": "http://" + "x" * 10**6}, "web addresses are not fetched"),
    ],
)
def test_the_answer_says_which_argument_is_wrong(
    served: tuple[GuardedBlocks, str], arguments: dict[str, Any], reason: str
) -> None:
    text = post(served[1], "tools/call", {"name": "score", "arguments": arguments}).text
    assert reason in text and '"isError":true' in text and len(text) < 1000
