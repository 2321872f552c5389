"""Requests to the endpoints of a running app: arguments, bodies and names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.corpus.case import Case, Right

API = "/gradio_api"
PHOTO = "PHOTO"  # in the place of the path that an uploaded photo got
DEFAULTS: dict[str, list[Any]] = {
    "score": [{"path": PHOTO}, "dog, cat", 0.95],
    "probe": [{"path": PHOTO}, ["a photo of a zebra", "not a photo of a zebra"]],
    "heatmap": [{"path": PHOTO}, "dog, cat", "", "grad-cam", "prompts"],
}


@dataclass(frozen=True)
class Request:
    """What is sent.

    Attributes:
        path: where to, with a query.
        method: of HTTP.
        content: the body.
        headers: beside those that every client sends.
    """

    path: str
    method: str = "POST"
    content: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Statuses:
    """Statuses that are right whatever is said with them."""

    right: frozenset[int]


def status(*right: int) -> Statuses:
    """One of these."""
    return Statuses(frozenset(right))


REFUSED = status(400, 401, 403, 404, 405, 413, 415, 421, 422)


def request_cases() -> list[Case]:
    """All requests to endpoints."""
    return [case for maker in (_arguments, _counts, _bodies, _names, _page) for case in maker()]


def request_case(family: str, name: str, request: Request, right: Any) -> Case:
    """One of these families."""
    return Case("request", f"requests, {family}", name, lambda: request, right)


def _call(family: str, name: str, endpoint: str, data: Any, right: Any = Right.SENTENCE) -> Case:
    body = json.dumps({"data": data}).encode()
    json_type = {"Content-Type": "application/json"}
    return request_case(
        family, f"{endpoint}, {name}", Request(f"{API}/call/{endpoint}", "POST", body, json_type), right
    )


FILES: dict[str, Any] = {
    "nothing": None,
    "a word": "abc",
    "a number": 5,
    "true": True,
    "a list": [],
    "an empty object": {},
    "no path": {"path": None},
    "a number for a path": {"path": 5},
    "a list for a path": {"path": ["/x"]},
    "an object for a path": {"path": {"path": "/x"}},
    "a path of the server": {"path": "/etc/passwd"},
    "a path upwards": {"path": "../../../../etc/passwd"},
    "a path of the code": {"path": "app.py"},
    "a file address": {"path": "file:///etc/passwd"},
    "a foreign address": {"path": "http://127.0.0.1:1/x.png"},
    "a broken address": {"path": "http://[::1"},
    "a foreign url": {"url": "http://127.0.0.1:1/x.png"},
    "a path and a url": {"path": "x", "url": "http://127.0.0.1:1/x.png"},
    "a cloud's address": {"path": "http://169.254.169.254/latest/meta-data"},
    "a NUL": {"path": "a\0b"},
    "a long path": {"path": "x" * 20_000},
    "an empty path": {"path": ""},
    "a folder": {"path": "/tmp"},
    "a device": {"path": "/dev/zero"},
    "an own mark": {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}, "is_stream": True},
    "an empty data link": "data:,",
    "a data link of text": "data:image/png;base64,AAAA",
    "a broken data link": "data:image/png;base64,!!!",
    "a data link of SVG": "data:image/svg+xml,<svg onload='alert(1)'/>",
}
NUMBERS: dict[str, Any] = {
    "nothing": None,
    "a word": "0.9",
    "true": True,
    "a list": [0.9],
    "0": 0,
    "1": 1,
    "-1": -1,
    "2": 2,
    "NaN": float("nan"),
    "infinity": float("inf"),
    "10^300": 10**300,
    "10^400": 10**400,
}
LISTS: dict[str, Any] = {
    "nothing": None,
    "a number": 5,
    "a list": ["dog", "cat"],
    "an object": {"a": "dog"},
    "empty": "",
    "commas": ",,,",
    "a name twice": "dog, dog",
    "40,001 letters": "ab," * 14_000,
    "1,001 names": ",".join(f"c{i}" for i in range(1001)),
    "a NUL": "a\0b, dog",
    "half a surrogate pair": "\ud800, dog",
}
TEXTS: dict[str, Any] = {
    "nothing": None,
    "a text": "dog",
    "none": [],
    "one": ["dog"],
    "numbers": [1, 2],
    "lists": [["dog"], ["cat"]],
    "empty ones": ["", ""],
    "long ones": ["x" * 10**5, "dog"],
    "ten thousand": [f"a photo of {i}" for i in range(10_000)],
    "half a surrogate pair": ["\ud800", "dog"],
}
WORDS: dict[str, Any] = {"nothing": None, "a number": 3, "a list": [], "unknown": "nope", "long": "x" * 10_000}


def _arguments() -> Iterator[Case]:
    for endpoint, defaults in DEFAULTS.items():
        for name, value in FILES.items():
            yield _call("files", name, endpoint, [value, *defaults[1:]])
    for name, value in NUMBERS.items():
        yield _call("arguments", f"tpr: {name}", "score", [*DEFAULTS["score"][:2], value])
    for endpoint in ("score", "heatmap"):
        for name, value in LISTS.items():
            yield _call("arguments", f"classes: {name}", endpoint, [{"path": PHOTO}, value])
    for name, value in TEXTS.items():
        yield _call("arguments", f"texts: {name}", "probe", [{"path": PHOTO}, value])
    for place, what in ((2, "class name"), (3, "method"), (4, "target")):
        for name, value in WORDS.items():
            data = list(DEFAULTS["heatmap"])
            data[place] = value
            yield _call("arguments", f"{what}: {name}", "heatmap", data)
    for endpoint, defaults in DEFAULTS.items():
        yield _call("arguments", "as documented", endpoint, defaults, status(200))


def _counts() -> Iterator[Case]:
    for endpoint, defaults in DEFAULTS.items():
        yield _call("counts", "none", endpoint, [])
        yield _call("counts", "one more", endpoint, [*defaults, 1])
        yield _call("counts", "a thousand more", endpoint, [*defaults, *range(1000)])
        yield _call("counts", "a text for a list", endpoint, "abc")
        yield _call("counts", "nothing for a list", endpoint, None, Right.EITHER)
        yield _call("counts", "an object for a list", endpoint, {"0": 1})


_MARKED = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}
VALUES: dict[str, Any] = {
    "nothing": None,
    "a word": "abc",
    "a large number": 10**30,
    "true": True,
    "nested lists": [[["x"]]],
    "an object": {"a": {"b": 1}},
    "a path of the server": "/etc/passwd",
    "a file of the server": _MARKED,
    "files of the server": [_MARKED, _MARKED],
    "a foreign file": {"path": "http://169.254.169.254/", "meta": {"_type": "gradio.FileData"}},
    "markup": "<img src=x onerror=alert(1)>",
    "100,000 letters": "x" * 100_000,
    "somebody's detector": "private-" + "0" * 24,
}


def _page() -> Iterator[Case]:
    """One value in the place of every input of every function that the page calls."""
    for name, value in VALUES.items():
        yield Case("page", "requests, page functions", name, lambda value=value: value, Right.EITHER)


BODIES: dict[str, bytes] = {
    "nothing": b"",
    "no UTF-8": b"\xff{",
    "no JSON": b"data=1",
    "cut": b'{"data": [',
    "deep": b"[" * 100_000,
    "deep inside": b'{"data": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "a number": b"5",
    "null": b"null",
    "a list": b"[1, 2]",
    "data of a number": b'{"data": 5}',
    "5,000 digits": b'{"data": [' + b"9" * 5000 + b"]}",
    "spaces": b" " * 10**6,
    "UTF-16": '{"data": []}'.encode("utf-16"),
    "a function": b'{"data": [], "fn_index": 99999, "session_hash": "x"}',
    "a negative function": b'{"data": [], "fn_index": -1, "session_hash": "x"}',
    "a session of a list": b'{"data": [], "fn_index": 0, "session_hash": ["x"]}',
    "half a surrogate pair": b'{"data": ["\\ud800"], "fn_index": 0, "session_hash": "x"}',
}


def _bodies() -> Iterator[Case]:
    for path in ("call/score", "queue/join", "run/score"):
        for name, body in BODIES.items():
            request = Request(f"{API}/{path}", "POST", body, {"Content-Type": "application/json"})
            yield request_case("bodies", f"{path}, {name}", request, Right.EITHER)
    for kind in ("text/plain", "application/xml", "application/x-www-form-urlencoded", "x", ""):
        request = Request(f"{API}/call/score", "POST", b"<x/>", {"Content-Type": kind})
        yield request_case("bodies", f"of type {kind!r}", request, Right.SENTENCE)


def _names() -> Iterator[Case]:
    for name in (
        "nothing",
        "predict_",
        "__class__",
        "../score",
        "score%00",
        "score/score",
        "%2e%2e",
        "x" * 5000,
        "<b>",
    ):
        request = Request(f"{API}/call/{name}", "POST", b'{"data": []}', {"Content-Type": "application/json"})
        yield request_case("names", name[:40], request, REFUSED)
    for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"):
        yield request_case("names", f"{method} call/score", Request(f"{API}/call/score", method), REFUSED)
    yield request_case("names", "an event of nobody", Request(f"{API}/call/score/{'0' * 32}", "GET"), status(200, 404))
