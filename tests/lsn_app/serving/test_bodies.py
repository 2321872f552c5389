"""How much of a request is read: bounded before it becomes values, whatever it says of its own length."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import httpx
import pytest

from lsn_app import Settings, build_app, launch_options
from lsn_app.serving import bodies
from lsn_app.serving.bodies import MAX_CALL, MAX_OTHER, MAX_TOOL_CALL, MAX_VALUES
from tests.corpus.outcome import measured

JSON = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
CALL, TOOL = "/gradio_api/call/score", "/gradio_api/mcp/"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The address of an app that serves MCP."""
    page = build_app(Settings())
    _, address, _ = page.launch(
        server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, **launch_options(mcp=True)
    )
    yield address.rstrip("/")
    page.close()


def in_parts(data: bytes, size: int = 2**16) -> Iterator[bytes]:
    """A body without a length in its header."""
    yield from (data[at : at + size] for at in range(0, len(data), size))


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize(
    ("path", "most", "way_out"),
    [
        (CALL, MAX_CALL, "Upload files"),
        ("/gradio_api/queue/join", MAX_CALL, "Upload files"),
        (TOOL, MAX_TOOL_CALL, "Send a smaller one"),
        ("/gradio_api/cancel", MAX_OTHER, "Send less"),
        ("/login", MAX_OTHER, "Send less"),
    ],
)
def test_a_body_beyond_the_bound_is_refused_with_the_reason(
    url: str, path: str, most: int, way_out: str, told: bool
) -> None:
    body = b'{"data": ["' + b"x" * most + b'"]}'
    answer = httpx.post(f"{url}{path}", content=body if told else in_parts(body), headers=JSON, timeout=60)
    assert answer.status_code == 413 and way_out in answer.json()["detail"]


@pytest.mark.parametrize("path", [CALL, TOOL])
@pytest.mark.parametrize("item", [b"[],", b"{},", b'"",', b"1,"])
def test_many_values_in_few_bytes_take_no_memory(url: str, path: str, item: bytes) -> None:
    body = b'{"data": [' + item * (MAX_TOOL_CALL // len(item) - 20) + b"0]}"
    case = SimpleNamespace(right=None)
    result = measured(case, "app", lambda _: httpx.post(f"{url}{path}", content=body, headers=JSON, timeout=60))  # type: ignore[arg-type]
    assert result.memory < 200 * 2**20
    answer = httpx.post(f"{url}{path}", content=body, headers=JSON, timeout=60)
    assert answer.status_code == 413 and f"{MAX_VALUES:,} values" in answer.json()["detail"]


def test_a_call_within_the_bounds_is_read(url: str) -> None:
    body = b'{"data": [' + b"1," * (MAX_VALUES - 10) + b"1]}"
    assert httpx.post(f"{url}{CALL}", content=in_parts(body), headers=JSON, timeout=60).status_code == 200


@pytest.mark.parametrize("body", [b"[]", b"{", b"5", b"\xff", b"[" * 100_000, b'{"a":' * 100_000])
def test_what_is_no_message_of_mcp_is_refused_in_a_sentence(url: str, body: bytes) -> None:
    answer = httpx.post(f"{url}{TOOL}", content=body, headers=JSON)
    assert answer.status_code == 400 and "JSON-RPC" in answer.json()["detail"]


def test_a_body_that_does_not_come_is_not_waited_for(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MAX_SECONDS", 0.5)
    monkeypatch.setattr(bodies, "_DROP_SECONDS", 0.1)
    address = urlsplit(url)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=20) as connection:
        head = f"POST {CALL} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: 100\r\n\r\n"
        connection.sendall(head.encode())
        said = connection.makefile("rb").read().decode()
    assert said.startswith("HTTP/1.1 408 ") and "Try again" in said


def test_nothing_is_uploaded_to_a_full_disk(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies.shutil, "disk_usage", lambda folder: SimpleNamespace(free=2**20))
    answer = httpx.post(f"{url}/gradio_api/upload", files={"files": ("a.png", bytes(1000))})
    assert answer.status_code == 507 and "nearly full" in answer.json()["detail"]


def test_an_upload_beyond_the_bound_leaves_nothing_behind(
    url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bodies, "MAX_UPLOAD", 10**6)
    form = b'--x\r\nContent-Disposition: form-data; name="files"; filename="big.bin"\r\n\r\n' + bytes(2 * 10**6)
    for content in (form, in_parts(form)):
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        answer = httpx.post(f"{url}/gradio_api/upload", content=content, headers=headers)
        assert answer.status_code in (400, 413) and "MiB" in answer.text
