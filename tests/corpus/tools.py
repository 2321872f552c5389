"""Calls of MCP tools that an honest client would not make."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.corpus.case import Case, Right
from tests.corpus.requests import LISTS, NUMBERS, TEXTS, WORDS

DATA = "DATA"  # in the place of a photo as a data URL
FETCHED = "http://ELSEWHERE"  # in the place of a server that tells what it is asked for


@dataclass(frozen=True)
class ToolCall:
    """What is sent: the name of a tool, or of another request of the protocol that has a name, and arguments."""

    name: str
    arguments: dict[str, Any]
    request: str = "tools/call"


_RIGHT: dict[str, dict[str, Any]] = {
    "score": {"image": DATA, "classes": "dog, cat", "tpr": 0.95},
    "probe": {"image": DATA, "texts": ["a photo of a zebra", "not a photo of a zebra"]},
    "heatmap": {"image": DATA, "classes": "dog, cat", "class_name": "", "method": "grad-cam", "target": "prompts"},
}
_MARKED = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}
_PHOTOS: dict[str, Any] = {
    "nothing": None,
    "a number": 5,
    "true": True,
    "a list": ["x"],
    "an object": {"path": "/etc/passwd"},
    "an object with Gradio's mark": _MARKED,
    "an empty text": "",
    "a word": "zebra",
    "a path of the server": "/etc/passwd",
    "a path upwards": "../../../../etc/passwd",
    "a device": "/dev/zero",
    "a file address": "file:///etc/passwd",
    "an FTP address": "ftp://127.0.0.1/x",
    "another server": f"{FETCHED}/x.png",
    "another server that looks like an upload": f"{FETCHED}/gradio_api/file=/etc/passwd",
    "an upload that is a path": "http://127.0.0.1/gradio_api/file=/etc/passwd",
    "an upload upwards": "http://127.0.0.1/gradio_api/file=../../etc/passwd",
    "a cloud's address": "http://169.254.169.254/latest/meta-data",
    "a cloud's name": "http://metadata.google.internal/",
    "a private address": "http://10.0.0.1/",
    "this machine": "http://localhost:22/",
    "this machine as a number": "http://2130706433/",
    "IPv6": "http://[::1]:22/",
    "a broken address": "http://[::1",
    "a name and password": "http://user:password@127.0.0.1/",
    "an empty data URL": "data:,",
    "a data URL of text": "data:image/png;base64,AAAA",
    "a broken data URL": "data:image/png;base64,!!!",
    "a data URL of SVG": "data:image/svg+xml,<svg onload='alert(1)'/>",
    "a data URL of a path": "data:../../x;base64,AAAA",
    "a long word": "x" * 3_000_000,
    "a NUL": "data:image/png;base64,\0",
}


def tool_cases() -> list[Case]:
    """All of them."""
    return [case for maker in (_photos, _arguments, _names) for case in maker()]


def _case(family: str, name: str, call: ToolCall, right: Any = Right.SENTENCE) -> Case:
    return Case("tool", f"MCP, {family}", name, lambda: call, right)


def _photos() -> Iterator[Case]:
    for tool, arguments in _RIGHT.items():
        for name, value in _PHOTOS.items():
            yield _case("photos", f"{tool}, {name}", ToolCall(tool, {**arguments, "image": value}))


def _arguments() -> Iterator[Case]:
    changes = [("score", "classes", LISTS), ("heatmap", "classes", LISTS), ("score", "tpr", NUMBERS)]
    changes += [("probe", "texts", TEXTS)]
    changes += [("heatmap", name, WORDS) for name in ("class_name", "method", "target")]
    for tool, parameter, values in changes:
        for name, value in values.items():
            if name in ("half a surrogate pair", "10^400", "NaN", "infinity"):  # what the client itself does not send
                continue
            call = ToolCall(tool, {**_RIGHT[tool], parameter: value})
            yield _case("arguments", f"{tool}, {parameter}: {name}", call, Right.EITHER)
    for tool, arguments in _RIGHT.items():
        yield _case("arguments", f"{tool}, as documented", ToolCall(tool, arguments), Right.EITHER)
        yield _case("arguments", f"{tool}, none", ToolCall(tool, {}))
        yield _case("arguments", f"{tool}, no photo", ToolCall(tool, {**arguments} | {"image": None}))
        yield _case("arguments", f"{tool}, one more", ToolCall(tool, {**arguments, "x": 1}))
        yield _case("arguments", f"{tool}, a thousand more", ToolCall(tool, {f"x{n}": n for n in range(1000)}))
        yield _case("arguments", f"{tool}, markup", ToolCall(tool, {**arguments, "<img src=x onerror=alert(1)>": 1}))
        for parameter in arguments:
            yield _case("arguments", f"{tool}, {parameter} a file", ToolCall(tool, {**arguments, parameter: _MARKED}))
    markup = "<img src=x onerror=alert(1)>, <script>alert(1)</script>"
    yield _case("arguments", "markup", ToolCall("score", {"image": DATA, "classes": markup}), Right.EITHER)
    wide = {"image": DATA, "texts": ["x"] * 200_000}
    yield _case("arguments", "200,000 texts", ToolCall("probe", wide), Right.EITHER)
    yield _case(
        "arguments", "a photo of 5 MB", ToolCall("score", {"image": "data:image/png;base64," + "A" * 5_000_000})
    )


def _names() -> Iterator[Case]:
    for name in ("", "nope", "score ", "SCORE", "../score", "predict", "take_photo", "__class__", "x" * 5000, "<b>"):
        yield _case("names", f"tool {name[:20]!r}", ToolCall(name, _RIGHT["score"]))
    for request, name in (
        ("prompts/get", "score"),
        ("prompts/get", "nope"),
        ("resources/read", "file:///etc/passwd"),
        ("resources/read", f"{FETCHED}/x"),
    ):
        call = ToolCall(name, {"image": "/etc/passwd", "classes": "dog, cat"}, request)
        yield _case("names", f"{request} {name}", call, Right.EITHER)
