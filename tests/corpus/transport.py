"""Requests as HTTP carries them: paths, hosts, headers and uploads."""

from __future__ import annotations

from collections.abc import Iterator

from tests.corpus.case import Case
from tests.corpus.requests import API, REFUSED, Request, request_case, status


def transport_cases() -> list[Case]:
    """All of them."""
    return [case for maker in (_paths, _hosts, _headers, _uploads) for case in maker()]


PATHS = (
    "/file=/etc/passwd",
    "/file=../../etc/passwd",
    "/file=..%2f..%2fetc%2fpasswd",
    "/file=app.py",
    "/file=//etc/passwd",
    "/file=\\etc\\passwd",
    "/file=file:///etc/passwd",
    "/file=/proc/self/environ",
    "/file=/dev/zero",
    "/file=%00",
    "/file=",
    "/file/etc/passwd",
    "/proxy=http://127.0.0.1:1/x",
    "/proxy=https://example.org/",
    "/component_server",
    "/stream/x/y/z/playlist.m3u8",
    "/upload_progress",
    "/custom_component/x/server/y/z",
    "/theme.css/../../app.py",
)


def _paths() -> Iterator[Case]:
    for path in PATHS:
        yield request_case("paths", path, Request(f"{API}{path}", "GET"), REFUSED)
    for path in (
        "/static/../../app.py",
        "/assets/%2e%2e/%2e%2e/app.py",
        "/.env",
        "/.git/config",
        "/app.py",
        "/metrics",
    ):
        yield request_case("paths", path, Request(path, "GET"), REFUSED)
    yield request_case(
        "paths", "a foreign page in the query", Request("/?__theme=http://x&tab=<script>", "GET"), status(200)
    )


def _hosts() -> Iterator[Case]:
    for host in (
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.",
        "[::2]",
        "0.0.0.0",
        "127.1",
        "a" * 300,
        "x:y:z",
    ):
        yield request_case("hosts", host[:30], Request("/", "GET", headers={"Host": host}), status(400, 421))
    for host in ("localhost:1", "127.0.0.1", "[::1]:7860", "LOCALHOST"):
        yield request_case("hosts", f"own, {host}", Request("/", "GET", headers={"Host": host}), status(200))
    for name in ("X-Forwarded-Host", "X-Host", "Forwarded", "X-Original-URL", "X-Rewrite-URL"):
        yield request_case("hosts", name, Request("/", "GET", headers={name: "host=evil.example"}), status(200))


def _headers() -> Iterator[Case]:
    long = {"X-Long": "x" * 100_000}
    yield request_case("headers", "a long one", Request("/healthz", "GET", headers=long), status(200, 400, 431))
    many = {f"X-{i}": "1" for i in range(2000)}
    yield request_case("headers", "2,000", Request("/healthz", "GET", headers=many), status(200, 400, 431))
    odd = {
        "Range": "bytes=-1,0-,5-4,99999999999999999999-",
        "Cookie": "=; ; access-token=x; " + "y" * 3000,
        "Authorization": "Basic !!!",
        "Accept-Language": "x" * 3000,
        "If-Modified-Since": "never",
        "X-Forwarded-For": "'; DROP TABLE x; --, " * 20,
        "X-Forwarded-Proto": "javascript",
        "X-Gradio-User": "admin",
        "Content-Length": "-1",
        "Content-Encoding": "br",
        "Transfer-Encoding": "chunked, chunked",
        "Expect": "200-nothing",
        "Upgrade": "websocket",
    }
    for name, value in odd.items():
        yield request_case("headers", name, Request("/", "GET", headers={name: value}), status(200, 400, 417, 426, 501))


def multipart(*parts: tuple[str, bytes], boundary: str = "x") -> bytes:
    """The body of an upload: disposition and content of each part."""
    body = b"".join(
        f"--{boundary}\r\nContent-Disposition: {about}\r\n\r\n".encode(errors="surrogateescape") + data + b"\r\n"
        for about, data in parts
    )
    return body + f"--{boundary}--\r\n".encode()


def _uploads() -> Iterator[Case]:
    name = 'form-data; name="files"; filename="{}"'
    bodies: dict[str, bytes] = {
        "nothing": b"",
        "no parts": b"--x--\r\n",
        "cut": multipart((name.format("a.png"), bytes(100)))[:60],
        "no file name": multipart(('form-data; name="files"', b"abc")),
        "another name": multipart(('form-data; name="other"; filename="a.png"', b"abc")),
        "no disposition": b"--x\r\n\r\nabc\r\n--x--\r\n",
        "another boundary": multipart((name.format("a.png"), b"abc"), boundary="y"),
        "no line ends": b"--x" + bytes(1000) + b"--x--",
        "10,000 parts": multipart(*[('form-data; name="x"', b"1")] * 10_000),
        "10,000 files": multipart(*[(name.format("a.png"), b"1")] * 10_000),
        "a header of 1 MB": multipart((name.format("a" * 10**6), b"abc")),
        "rubbish": bytes(range(256)) * 100,
    }
    for key, body in bodies.items():
        request = Request(f"{API}/upload", "POST", body, {"Content-Type": "multipart/form-data; boundary=x"})
        yield request_case("uploads", key, request, status(200, 400, 413, 422))
    for key, file in {
        "upwards": "../../../../tmp/evil.png",
        "absolute": "/tmp/evil.png",
        "Windows": "..\\..\\evil.png",
        "a NUL": "a\0b.png",
        "long": "x" * 5000 + ".png",
        "dots": "..",
        "empty": "",
        "markup": "<img src=x onerror=alert(1)>.png",
        "a page": "evil.html",
        "no UTF-8": "\udcff\udcfe.png",
    }.items():
        body = multipart((name.format(file), b"<script>alert(1)</script>"))
        request = Request(f"{API}/upload", "POST", body, {"Content-Type": "multipart/form-data; boundary=x"})
        yield request_case("uploads", f"file name: {key}", request, status(200, 400, 413, 422))
    for kind in ("", "multipart/form-data", "application/json", "multipart/form-data; boundary=" + "y" * 5000):
        body = multipart((name.format("a.png"), b"abc"))
        request = Request(f"{API}/upload", "POST", body, {"Content-Type": kind})
        yield request_case("uploads", f"of type {kind[:40]!r}", request, status(200, 400, 415, 422))
