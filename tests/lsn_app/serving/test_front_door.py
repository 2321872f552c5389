"""The door of a running app: hosts, headers, fair shares, what is kept of callers, endings."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from support import serving

from lsn_app import Settings, build_app, launch_options
from lsn_app.serving.blocks import GuardedBlocks
from lsn_app.serving.front_door import SHARE
from lsn_app.serving.sessions import Sessions


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[GuardedBlocks, str]]:
    """A page behind a proxy, with metrics."""
    settings = Settings(proxied=True, metrics=True)
    page = build_app(settings)
    _, address, _ = page.launch(
        server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, **launch_options(settings)
    )
    yield page, address.rstrip("/")
    page.close()


@pytest.fixture
def photo(served: tuple[GuardedBlocks, str], examples: Path) -> dict[str, Any]:
    _, url = served
    with (examples / "zebra.jpg").open("rb") as file:
        (path,) = httpx.post(f"{url}/gradio_api/upload", files={"files": file}).json()
    return {"path": path}


def ask(url: str, name: str, data: list[Any], client: str = "203.0.113.1") -> tuple[int, str]:
    """Status and answer of a call of an endpoint over plain HTTP."""
    headers = {"X-Forwarded-For": client}
    started = httpx.post(f"{url}/gradio_api/call/{name}", json={"data": data}, headers=headers, timeout=60)
    if started.status_code != 200:
        return started.status_code, started.text
    answer = httpx.get(f"{url}/gradio_api/call/{name}/{started.json()['event_id']}", headers=headers, timeout=60)
    return answer.status_code, answer.text


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.", "[::2]", ""])
def test_a_local_page_answers_to_local_names_only(served: tuple[GuardedBlocks, str], host: str) -> None:
    _, url = served
    answer = httpx.get(f"{url}/", headers={"Host": host})
    assert answer.status_code == 421 and "LSN_HOSTS" in answer.text


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "[::1]:7860", "LOCALHOST"])
def test_it_answers_to_each_of_them(served: tuple[GuardedBlocks, str], host: str) -> None:
    _, url = served
    assert httpx.get(f"{url}/", headers={"Host": host}).status_code == 200


def test_every_answer_tells_the_browser_what_it_may_do(served: tuple[GuardedBlocks, str]) -> None:
    _, url = served
    for path in ("/", "/healthz", "/gradio_api/info", "/nothing-here"):
        headers = httpx.get(f"{url}{path}").headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'self'" in headers["content-security-policy"]
        assert headers["referrer-policy"] and headers["x-frame-options"] == "SAMEORIGIN"


def test_left_out_arguments_have_their_documented_defaults(
    served: tuple[GuardedBlocks, str], photo: dict[str, Any]
) -> None:
    _, url = served
    short, whole = ask(url, "score", [photo]), ask(url, "score", [photo, "dog, cat, elephant, flamingo", 0.95])
    assert short == whole and short[1].startswith("event: complete")


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("score", [], "image is missing"),
        ("score", [None], "must be a file"),
        ("score", ["abc"], "must be a file"),
        ("score", [{"path": ["/x"]}], "must be a text"),
        ("score", [{"path": "/etc/passwd"}], "does not fit"),
        ("score", [{"path": "x", "url": "x"}, 5], "classes must be a text, not int"),
        ("score", [{"path": "x"}, "dog", True], "tpr must be a number, not bool"),
        ("score", [{"path": "x"}, "dog", 0.9, 1], "only 3"),
        ("probe", [{"path": "x"}], "texts is missing"),
        ("probe", [{"path": "x"}, "dog"], "must be a list of texts"),
        ("probe", [{"path": "x"}, ["dog", 3]], "must be a list of texts"),
        ("heatmap", [{"path": "x"}, "dog", None], "class_name must be a text"),
        ("nothing", [], "There is no endpoint"),
    ],
)
def test_what_does_not_fit_is_answered_with_the_reason(
    served: tuple[GuardedBlocks, str], name: str, data: list[Any], reason: str
) -> None:
    _, text = ask(served[1], name, data)
    assert reason in text and "null" not in text


@pytest.mark.parametrize("body", [b"\xff{", b"[" * 100_000, b"", b'{"data": 5}', b'{"data": [], "fn_index": 99999}'])
@pytest.mark.parametrize("path", ["call/score", "queue/join"])
def test_a_body_that_is_no_request_is_refused(served: tuple[GuardedBlocks, str], body: bytes, path: str) -> None:
    _, url = served
    content = body.replace(b"99999}", b'99999, "session_hash": "x"}')
    answer = httpx.post(f"{url}/gradio_api/{path}", content=content, headers={"Content-Type": "application/json"})
    if path == "call/score" and b"fn_index" in body:  # which function it is, the path says
        assert answer.status_code == 200
    else:
        assert 400 <= answer.status_code < 500 and answer.json()["detail"]


def test_one_client_gets_its_share_and_others_are_served_beside(
    served: tuple[GuardedBlocks, str], photo: dict[str, Any]
) -> None:
    page, url = served
    release = threading.Event()
    encoder = page_encoder(page)
    plain = encoder.backbone.encode_texts

    def slow(texts: Any) -> Any:
        release.wait(30)
        return plain(texts)

    encoder.backbone.encode_texts = slow
    try:
        with ThreadPoolExecutor(64) as pool:
            begun = [
                pool.submit(
                    httpx.post,
                    f"{url}/gradio_api/call/score",
                    json={"data": [photo, f"thing {n}, other {n}"]},
                    headers={"X-Forwarded-For": "203.0.113.7"},
                    timeout=60,
                )
                for n in range(64)
            ]
            answers = [one.result() for one in begun]
            other = httpx.post(
                f"{url}/gradio_api/call/score",
                json={"data": [photo]},
                headers={"X-Forwarded-For": "203.0.113.8"},
                timeout=60,
            )
    finally:
        release.set()
        encoder.backbone.encode_texts = plain
    counts = Counter(answer.status_code for answer in answers)
    assert counts.keys() == {200, 429} and SHARE // 2 <= counts[200] <= SHARE
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert int(refused.headers["retry-after"]) >= 1 and "Try again in" in refused.json()["error"]
    assert other.status_code == 200
    assert "lsn_refused_total" in httpx.get(f"{url}/metrics").text


def page_encoder(page: GuardedBlocks) -> Any:
    """What the page encodes photos and texts with."""
    (function,) = [one.fn for one in page.fns.values() if one.api_name == "score"]
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    return cells["store"].cell_contents.encoder(None)


def test_callers_who_never_open_the_page_leave_nothing_behind(
    served: tuple[GuardedBlocks, str], photo: dict[str, Any]
) -> None:
    page, url = served
    holder = page.app.state_holder
    assert isinstance(holder, Sessions)
    holder.greet("a-visitor")
    holder["a-visitor"]
    for _ in range(100):
        ask(url, "score", [photo])
    assert len(holder.session_data) <= 66 and "a-visitor" in holder.session_data


def test_metrics_tell_operators_how_it_goes(served: tuple[GuardedBlocks, str], photo: dict[str, Any]) -> None:
    _, url = served
    ask(url, "score", [photo])
    text = httpx.get(f"{url}/metrics").text
    assert 'lsn_requests_total{asked="score",outcome="done"}' in text
    assert 'lsn_verdicts_total{verdict="OOD"}' in text and "lsn_peak_memory_bytes" in text
    assert "zebra" not in text and "203.0.113" not in text


def test_a_server_that_is_stopped_begins_nothing_new(served: tuple[GuardedBlocks, str], photo: dict[str, Any]) -> None:
    page, url = served
    page.draining = True
    try:
        status, text = ask(url, "score", [photo])
        assert status == 503 and "being stopped" in text
        assert httpx.get(f"{url}/healthz").status_code == 503
    finally:
        page.draining = False
    assert httpx.get(f"{url}/healthz").json() == {"status": "ok"}


def test_sigterm_lets_what_is_at_work_be_answered(tmp_path: Path, examples: Path) -> None:
    environment, log = {**os.environ, "LSN_DATA": str(tmp_path / "data")}, tmp_path / "log.txt"
    with ThreadPoolExecutor(1) as pool:
        with serving([sys.executable, "app.py"], environment, log) as url:
            with (examples / "zebra.jpg").open("rb") as file:
                (path,) = httpx.post(f"{url}/gradio_api/upload", files={"files": file}, timeout=60).json()
            names = ", ".join(f"thing number {n}" for n in range(300))
            call = httpx.post(f"{url}/gradio_api/call/score", json={"data": [{"path": path}, names]}, timeout=60).json()
            answer = pool.submit(httpx.get, f"{url}/gradio_api/call/score/{call['event_id']}", timeout=60)
            time.sleep(0.2)
        assert answer.result().text.startswith("event: complete")
    assert "Traceback" not in log.read_text()
