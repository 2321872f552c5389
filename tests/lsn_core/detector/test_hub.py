"""Detectors on the Hub: real requests of its client to a local stand-in of its HTTP interface."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from support import REPO

from lsn_core import Backbone, Detector
from lsn_core.detector.card import write_card
from lsn_core.shipped import DETECTORS_DIR

TOKEN = "hf_made_up"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Repositories of files, and the part of the Hub's interface that publishing and fetching need."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.objects: dict[str, bytes] = {}
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: Any) -> None:
                pass

            def do_POST(self) -> None:
                hub.post(self)

            def do_PUT(self) -> None:
                data = self.rfile.read(int(self.headers["Content-Length"]))
                hub.objects[self.path.rsplit("/", 1)[1]] = data
                answer(self, 200, {})

            def do_GET(self) -> None:
                hub.get(self)

            do_HEAD = do_GET

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def post(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return answer(request, 401, {"error": "Invalid credentials"})
        path = request.path.split("?")[0]
        if path == "/api/validate-yaml":
            assert json.loads(body)["content"].startswith("---\nlibrary_name: lsn-core\n")
            return answer(request, 200, {"errors": [], "warnings": []})
        if path == "/api/repos/create":
            name = "/".join(filter(None, (json.loads(body).get("organization"), json.loads(body)["name"])))
            self.repositories.setdefault(name, {})
            return answer(request, 200, {"url": f"{self.url}/{name}"})
        if found := re.fullmatch(r"/api/models/(.+)/preupload/main", path):
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(body)["files"]
            ]
            return answer(request, 200, {"files": files})
        if path.endswith(".git/info/lfs/objects/batch"):
            objects = [
                {**one, "actions": {"upload": {"href": f"{self.url}/objects/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            return answer(request, 200, {"transfer": "basic", "objects": objects})
        if found := re.fullmatch(r"/api/models/(.+)/commit/main", path):
            for line in body.splitlines():
                change = json.loads(line)
                if change["key"] == "file":
                    data = base64.b64decode(change["value"]["content"])
                elif change["key"] == "lfsFile":
                    data = self.objects[change["value"]["oid"]]
                    assert hashlib.sha256(data).hexdigest() == change["value"]["oid"]
                else:
                    continue
                self.repositories[found[1]][change["value"]["path"]] = data
            return answer(
                request,
                200,
                {"commitOid": COMMIT, "commitUrl": f"{self.url}/{found[1]}/commit/{COMMIT}", "success": True},
            )
        return answer(request, 404, {"error": f"not made: {path}"})

    def get(self, request: BaseHTTPRequestHandler) -> None:
        found = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", unquote(request.path.split("?")[0]))
        if found is None:
            return answer(request, 404, {"error": f"not made: {request.path}"})
        repository, revision, name = found.groups()
        if repository not in self.repositories:
            return answer(request, 401, {}, {"X-Error-Code": "RepoNotFound"})
        if revision not in ("main", COMMIT):
            return answer(request, 404, {}, {"X-Error-Code": "RevisionNotFound"})
        data = self.repositories[repository].get(name)
        if data is None:
            return answer(request, 404, {}, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha256(data).hexdigest()}"'}
        request.send_response(200)
        for key, value in headers.items():
            request.send_header(key, value)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(data)


def answer(
    request: BaseHTTPRequestHandler, status: int, values: dict[str, Any], headers: dict[str, str] | None = None
) -> None:
    data = json.dumps(values).encode()
    request.send_response(status)
    for key, value in {**(headers or {}), "Content-Type": "application/json"}.items():
        request.send_header(key, value)
    request.send_header("Content-Length", str(len(data)))
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(data)


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    running = Hub()
    yield running
    running.server.shutdown()


SEVERAL = """
import json, os, sys
from typer.testing import CliRunner
from lsn_core.cli.app import build

for token, arguments in json.load(sys.stdin):
    os.environ["HF_TOKEN"] = token
    done = CliRunner().invoke(build(), arguments)
    print(json.dumps([done.exit_code, done.stdout, " ".join(done.stderr.split())]))
"""
Done = tuple[int, str, str]  # exit code, standard output, standard error on one line


def lsn(url: str, home: Path, *commands: tuple[str, list[object]]) -> list[Done]:
    """Commands with the token of each, in a process of their own, whose environment the Hub's client reads."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": url,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    wanted = json.dumps([(token, [str(part) for part in arguments]) for token, arguments in commands])
    done = subprocess.run(
        [sys.executable, "-c", SEVERAL], cwd=REPO, env=environment, input=wanted, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


def test_a_detector_is_published_and_used_by_its_name(hub: Hub, tmp_path: Path, examples: Path) -> None:
    detector, photo, mine = DETECTORS_DIR / "everyday.safetensors", examples / "cat.jpg", tmp_path / "mine.safetensors"
    pushed, there, here, fetched, again = lsn(
        hub.url,
        tmp_path,
        (TOKEN, ["push", detector, "friends/everyday", "--license", "apache-2.0"]),
        ("", ["score", "--json", "--detector", "hf-hub:friends/everyday", photo]),
        ("", ["score", "--json", "--detector", detector, photo]),
        ("", ["pull", "friends/everyday", "--out", mine]),
        ("", ["pull", "friends/everyday", "--out", mine]),
    )
    assert pushed[:2] == (0, f"{hub.url}/friends/everyday\n")
    files = hub.repositories["friends/everyday"]
    assert set(files) == {"detector.safetensors", "README.md"}
    card = files["README.md"].decode()
    assert "license: apache-2.0" in card and "`teddy bear`" in card and "zero-shot-mcm" in card
    assert there[0] == here[0] == 0 and json.loads(there[1]) == json.loads(here[1])
    assert fetched[0] == 0 and mine.read_bytes() == files["detector.safetensors"]
    assert again[0] == 2 and "there already" in again[2]


def test_what_does_not_work_is_said_in_a_sentence(hub: Hub, tmp_path: Path, examples: Path) -> None:
    hub.repositories["friends/empty"] = {}
    cases: list[tuple[str, list[object], str]] = [
        (TOKEN, ["score", "--detector", "hf-hub:nobody/nothing", examples / "cat.jpg"], "no repository nobody/nothing"),
        (TOKEN, ["score", "--detector", "hf-hub:friends/empty", examples / "cat.jpg"], "holds no detector"),
        (TOKEN, ["score", "--detector", "hf-hub:friends/empty@v9", examples / "cat.jpg"], "no such revision"),
        (TOKEN, ["score", "--detector", "hf-hub:a/b/c", examples / "cat.jpg"], "ORG/NAME is wanted"),
        ("hf_wrong", ["push", DETECTORS_DIR / "imagenette.safetensors", "friends/x"], "hf auth login"),
    ]
    found = lsn(hub.url, tmp_path, *((token, arguments) for token, arguments, _ in cases))
    for (code, _, said), (_, _, sentence) in zip(found, cases, strict=True):
        assert code == 2 and sentence in said


def test_a_hub_that_is_not_there_is_a_sentence(tmp_path: Path, examples: Path) -> None:
    ((code, _, said),) = lsn("http://127.0.0.1:9", tmp_path, ("", ["pull", "a/b", "--out", tmp_path / "x"]))
    assert code == 2 and "cannot be reached" in said


def test_a_card_says_what_is_known_and_names_are_only_text(tiny_backbone: Backbone) -> None:
    detector = Detector.zero_shot(tiny_backbone, ["<script>alert(1)</script>", "a|b\n# big", "`x`"], score_name="mcm")
    card = write_card(detector, "org/name")
    assert "<script>" not in card and "\n# big" not in card and "not calibrated" in card
    assert "not stated" in card and 'from_pretrained("org/name")' in card
