"""The public endpoints as a client of a running app meets them: over MCP, with and without honest files."""

from __future__ import annotations

import ast
import asyncio
import base64
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

from lsn_app import Settings, build_app, launch_options
from lsn_app.endpoints import uploads_only
from lsn_core import Backbone, Detector, UserError
from lsn_core.backbones.image_tower import view_image
from lsn_core.data.images import open_image
from lsn_core.heatmaps.maps import explain
from lsn_core.negation import choose

CLASSES = ("dog", "cat", "zebra")
TEXTS = ["a photo of a zebra", "not a photo of a zebra"]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an app that serves MCP."""
    page = build_app(Settings(data_dir=tmp_path_factory.mktemp("data")))
    _, address, _ = page.launch(
        server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, **launch_options(mcp=True)
    )
    yield address.rstrip("/")
    page.close()


@pytest.fixture(scope="module")
def photo(examples: Path) -> Path:
    return examples / "zebra.jpg"


@pytest.fixture
def elsewhere() -> Iterator[tuple[str, list[str]]]:
    """A server that a photo could be fetched from, and the requests it got."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()


def over_mcp(url: str, *calls: tuple[str, dict[str, Any]]) -> tuple[list[Any], list[Any]]:
    """The server's tools, and an answer to each call: the value, which Gradio writes as Python does, or a refusal."""

    async def talk() -> tuple[list[Any], list[Any]]:
        address = f"{url}/gradio_api/mcp/"
        async with streamable_http_client(address) as (read, write, _), ClientSession(read, write) as session:
            await session.initialize()
            answers = []
            for name, arguments in calls:
                answer = await session.call_tool(name, arguments)
                text = answer.content[0].text  # type: ignore[union-attr]
                answers.append(text if answer.isError else ast.literal_eval(text))
            return (await session.list_tools()).tools, answers

    # In a thread of its own: Playwright leaves an event loop in the one that ran browser tests before.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, talk()).result()


def test_the_tools_are_the_three_endpoints_and_give_the_numbers_of_the_library(
    url: str, photo: Path, embedded: Backbone
) -> None:
    data = f"data:image/jpeg;base64,{base64.b64encode(photo.read_bytes()).decode()}"
    with photo.open("rb") as file:
        (uploaded,) = httpx.post(f"{url}/gradio_api/upload", files={"files": file}).json()
    classes = ", ".join(CLASSES)
    tools, (line, again, probed, mapped) = over_mcp(
        url,
        ("score", {"image": data, "classes": classes}),
        ("score", {"image": f"{url}/gradio_api/file={uploaded}", "classes": classes}),
        ("probe", {"image": data, "texts": TEXTS}),
        ("heatmap", {"image": data, "classes": classes, "class_name": "zebra", "method": "grad-cam"}),
    )
    assert {tool.name for tool in tools} == {"score", "probe", "heatmap"}
    for tool in tools:
        assert len(tool.description or "") > 60
        assert all(about["description"] for about in tool.inputSchema["properties"].values())

    detector = Detector.zero_shot(embedded, CLASSES)
    (expected,) = detector.predict([photo])
    for answer in (line, again):
        assert answer["error"] is None and answer["predicted_class"] == "zebra"
        assert answer["score"] == pytest.approx(expected.score, abs=1e-5)
    assert again["file"] == "zebra.jpg"
    chosen = choose(embedded.encode_images([open_image(photo)]), TEXTS, embedded)
    assert probed["chosen"] == chosen.chosen and probed["cosines"] == pytest.approx(chosen.cosines, abs=1e-5)
    maps = explain(detector, view_image(embedded, open_image(photo)), "zebra", "grad-cam")
    assert [one["value"] for one in mapped["maps"]] == pytest.approx([t.value for t in maps.targets], abs=1e-5)


def test_nothing_is_fetched_or_read_from_the_server_for_a_caller(
    url: str, photo: Path, elsewhere: tuple[str, list[str]]
) -> None:
    address, asked = elsewhere
    file = {"path": str(photo), "meta": {"_type": "gradio.FileData"}}
    _, answers = over_mcp(
        url,
        ("score", {"image": f"{address}/zebra.jpg"}),
        ("score", {"image": f"{address}/gradio_api/file={photo}"}),
        ("score", {"image": str(photo)}),
        ("score", {"image": file}),
        ("probe", {"image": f"{address}/zebra.jpg", "texts": [file, file]}),
        ("score", {"image": "data:image/jpeg;base64,AAAA"}),
    )
    assert "web addresses are not fetched" in answers[0]
    assert all(isinstance(answer, str) for answer in answers[:5])  # refused, without a score
    assert asked == []
    assert "not an image" in answers[5]["error"]


@pytest.mark.parametrize(
    "extra", [{}, {"meta": {"_type": "gradio.FileData"}}, {"meta": {"_type": "x"}}, {"meta": None}]
)
def test_a_path_of_the_server_is_refused_however_it_is_written(url: str, photo: Path, extra: dict[str, Any]) -> None:
    given = {"path": str(photo), "orig_name": "x.jpg", **extra}
    started = httpx.post(f"{url}/gradio_api/call/score", json={"data": [given, "dog, cat", 0.95]}).json()
    answer = httpx.get(f"{url}/gradio_api/call/score/{started['event_id']}", timeout=30).text
    assert answer.startswith("event: error")


def test_files_get_the_form_that_is_checked_and_the_rest_stays() -> None:
    meta = {"_type": "gradio.FileData"}
    other = ["dog, cat", 0.95, None, {"rows": [1, 2]}, "http://in.a/text"]
    assert uploads_only(other) == other
    assert uploads_only([[{"path": "/a b.jpg"}]]) == [[{"path": "/a b.jpg", "meta": meta}]]
    address = "https://some.where/prefix/gradio_api/file=/tmp/gradio/a%20b.jpg?x=1"
    assert uploads_only({"path": address}) == {"path": "/tmp/gradio/a b.jpg", "url": None, "meta": meta}
    with pytest.raises(UserError, match="not fetched"):
        uploads_only([{"path": "https://some.where/a.jpg", "meta": meta}])


def test_without_its_package_mcp_is_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lsn_app.endpoints.importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'gradio\[mcp\]'"):
        launch_options(mcp=True)
    assert launch_options()["mcp_server"] is False
