"""The three ways in which a case is tried: the library, the command line, a running app."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
import numpy as np
import torch
import torch.nn.functional as F
from typer.testing import CliRunner

from lsn_core import Backbone, Detector, UserError
from lsn_core.class_names import split_class_names
from lsn_core.cli.app import build
from lsn_core.data.images import open_image
from tests.corpus.case import Case
from tests.corpus.images import Pixels
from tests.corpus.outcome import Refused, Result, measured, unclear
from tests.corpus.requests import API, Request, Statuses

PHOTO = Path("assets/examples/zebra.jpg")
CLASSES = "dog, cat, elephant"
_UPLOAD = "lsn-detector-file"  # the id of the page's button for detector files


class Library:
    """Calls of `lsn_core`.

    Args:
        backbone: what files and texts are opened with.
        folder: where files are made.
    """

    way = "library"

    def __init__(self, backbone: Backbone, folder: Path) -> None:
        self.backbone, self.folder = backbone, folder

    def run(self, case: Case) -> Result | None:
        """The result; None for what the library does not take."""
        takes: dict[str, Callable[[Case, Any], Any]] = {
            "image": self._image,
            "detector": self._detector,
            "text": self._text,
            "call": lambda case, call: call(self.backbone),
        }
        if case.kind not in takes:
            return None
        given = case.make()
        return measured(case, self.way, lambda case: _refusals(lambda: takes[case.kind](case, given)))

    def _image(self, case: Case, data: bytes) -> Any:
        picture = open_image(data, name=case.file)
        self.backbone.preprocess(picture)
        return picture

    def _detector(self, case: Case, data: bytes) -> list[str]:
        path = _write(self.folder / case.file, data)
        try:
            detector = Detector.load(path, self.backbone)
            features = F.normalize(torch.ones(2, self.backbone.dim), dim=-1)
            assert all(np.isfinite(one.score) for one in detector.predict_features(features) if one.score is not None)
            return list(detector.class_names)
        finally:
            path.unlink()

    def _text(self, case: Case, text: str) -> list[str]:
        return list(Detector.zero_shot(self.backbone, split_class_names(text)).class_names)


class CommandLine:
    """`python -m lsn_core`, in this process: starting one takes seconds."""

    way = "command line"

    def __init__(self, backbone: Backbone, folder: Path) -> None:
        self.backbone, self.folder = backbone, folder
        self.right = Detector.zero_shot(backbone, split_class_names(CLASSES))

    def run(self, case: Case) -> Result | None:
        """The result; None for what the command line does not take."""
        if case.kind not in ("image", "detector", "text", "command"):
            return None
        given = case.make()
        path = None
        if case.kind in ("image", "detector"):
            path = _write(self.folder / case.file, given)
        lines: dict[str, Callable[[], list[str]]] = {
            "image": lambda: ["score", str(path), "--classes", CLASSES, "--json"],
            "detector": lambda: ["score", str(PHOTO), "--detector", str(path), "--json"],
            "text": lambda: ["score", str(PHOTO), f"--classes={given}", "--json"],
            "command": lambda: given,
        }
        try:
            return measured(case, self.way, lambda case: self._answer(case, lines[case.kind]()))
        finally:
            if path is not None:
                path.unlink()

    def _answer(self, case: Case, line: list[str]) -> Any:
        with ExitStack() as loaded:  # the backbone is loaded once
            for module in ("backbones.loading", "detector.detector"):
                name = f"lsn_core.{module}.load_backbone"
                loaded.enter_context(patch(name, _loader(self.backbone)))
            done = CliRunner().invoke(build(), line, prog_name="lsn")
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            return done.exception
        if done.exit_code == 2:
            return Refused(_said(done.stderr))
        answers = [json.loads(text) for text in done.stdout.splitlines() if text.startswith("{")]
        refused = [answer["error"] for answer in answers if answer["error"]]
        if refused:
            return Refused(refused[0].replace(f"{self.folder}/", ""))
        return judged(case, answers[0], self.right, self.backbone) if answers else done.stdout


def judged(case: Case, answer: Mapping[str, Any], right: Detector, backbone: Backbone) -> Any:
    """What of a verdict can be compared with what is right: the picture that it was of, or the class names.

    Args:
        answer: as the command line's JSON and the endpoint `score` give it.
        right: a detector of the same classes.
    """
    if case.kind != "image" or not isinstance(case.right, Pixels):
        return list(answer["positive"])
    picture = open_image(np.ascontiguousarray(case.right.values))
    (expected,) = right.predict_features(backbone.encode_images([picture]))
    far = max(abs(answer["positive"][name] - cosine) for name, cosine in expected.positive.items())
    # What a few levels of a lossy format change; other pictures are farther.
    return case.right.values if far < (0.15 if case.right.tolerance else 1e-3) else f"cosines differ by {far:.4f}"


class App:
    """A running app.

    Args:
        address: where.
        process: its number, to measure it by.
        backbone: what its verdicts are held against.
    """

    way = "app"

    def __init__(self, address: str, process: int, backbone: Backbone, timeout: float = 120) -> None:
        self.client = httpx.Client(base_url=address, timeout=timeout)
        self.process, self.backbone = process, backbone
        self.right = Detector.zero_shot(backbone, split_class_names(CLASSES))
        self.photo = self._upload(PHOTO.name, PHOTO.read_bytes())
        config = self.client.get("/config").json()
        button = next(part["id"] for part in config["components"] if part["props"].get("elem_id") == _UPLOAD)
        self.events = [one for one in config["dependencies"] if one["backend_fn"]]
        self.event = next(one for one in self.events if [button, "upload"] in one["targets"])
        self.states = {part["id"]: part["props"].get("value") for part in config["components"]}

    def run(self, case: Case) -> Result | None:
        """The result; None for what the app does not take."""
        takes: dict[str, Callable[[Case, Any], Any]] = {
            "image": self._image,
            "detector": self._detector,
            "text": self._text,
            "request": self._request,
            "page": self._page,
        }
        if case.kind not in takes:
            return None
        given = case.make()
        result = measured(case, self.way, lambda case: takes[case.kind](case, given), self.process)
        try:
            well = httpx.get(self.client.base_url.join("/healthz"), timeout=20).status_code == 200
        except httpx.HTTPError:
            well = False
        return result if well else Result(case, self.way, "the app is not well afterwards")

    def _upload(self, name: str, data: bytes) -> str:
        answer = self.client.post(f"{API}/upload", files={"files": (name, data)})
        return str(answer.json()[0])

    def _image(self, case: Case, data: bytes) -> Any:
        name = case.file.encode("utf-8", "replace").decode()
        return self._score(case, [{"path": self._upload(name, data), "orig_name": name}, CLASSES])

    def _text(self, case: Case, text: str) -> Any:
        return self._score(case, [{"path": self.photo}, text])

    def _score(self, case: Case, data: list[Any]) -> Any:
        body = json.dumps({"data": data}).encode()
        answer = self._call(Request(f"{API}/call/score", "POST", body, {"Content-Type": "application/json"}))
        return answer if isinstance(answer, Refused | str) else judged(case, answer, self.right, self.backbone)

    def _detector(self, case: Case, data: bytes) -> Any:
        """What the page says to a file that is given to its button."""
        path = self._upload(case.file, data)
        given = {"path": path, "orig_name": case.file, "meta": {"_type": "gradio.FileData"}}
        inputs = [given if i == 0 else self.states.get(part) for i, part in enumerate(self.event["inputs"])]
        output = self._event(self.event, inputs)
        if isinstance(output, str):
            return output
        if output.get("error"):
            return Refused(output["error"])
        sentence = re.search(r'<p[^>]*>(.*?)</p>|class="lsn-problem"[^>]*>(.*?)<', json.dumps(output["data"]))
        if "private-" in json.dumps(output["data"]):
            return case.right
        return Refused(next(filter(None, sentence.groups())) if sentence else json.dumps(output["data"]))

    def _event(self, event: dict[str, Any], inputs: list[Any]) -> dict[str, Any] | str:
        """What a function of the page gives, or what the door says."""
        session = f"corpus{secrets.token_hex(8)}"
        asked = {"data": inputs, "fn_index": event["id"], "session_hash": session}
        joined = self.client.post(f"{API}/queue/join", json=asked)
        if joined.status_code != 200:
            return joined.text
        said = self.client.get(f"{API}/queue/data", params={"session_hash": session}).text
        messages = [json.loads(line[6:]) for line in said.splitlines() if line.startswith("data: ")]
        return next(dict(one["output"]) for one in messages if one["msg"] == "process_completed")

    def _page(self, case: Case, value: Any) -> str:
        for event in self.events:
            output = self._event(event, [value] * len(event["inputs"]))
            told = json.dumps(output)
            assert "root:" not in told, f"{event['api_name']} tells of a file of the server"
            if isinstance(output, dict) and "error" in output:
                assert not unclear(str(output["error"])), f"{event['api_name']}: {output['error']}"
        return "every function answers"

    def _request(self, case: Case, request: Request) -> Any:
        request = Request(
            request.path,
            request.method,
            request.content.replace(b'"PHOTO"', json.dumps(self.photo).encode()),
            request.headers,
        )
        try:
            answer = self._call(request, bare=isinstance(case.right, Statuses))
        except (httpx.HTTPError, UnicodeError) as error:
            # What no HTTP can carry is not sent, and what no server needs to read is hung up on.
            return case.right if isinstance(error, httpx.NetworkError | httpx.ProtocolError) else error
        if isinstance(case.right, Statuses) and isinstance(answer, int):
            return case.right if answer in case.right.right else f"status {answer}"
        return case.right if isinstance(case.right, Statuses) and not isinstance(answer, Refused) else answer

    def _call(self, request: Request, bare: bool = False) -> Any:
        """The answer of an endpoint, or `Refused`; the status where nothing else is asked for."""
        sent = self.client.build_request(request.method, request.path, content=request.content, headers=request.headers)
        # A connection of its own: what a server does not read to the end would be the beginning of the next request.
        with httpx.Client(timeout=self.client.timeout) as client:
            answer = client.send(sent)
        if answer.status_code != 200:
            if answer.status_code >= 500:
                return f"status {answer.status_code}: {answer.text[:200]}"
            return answer.status_code if bare else Refused(_detail(answer))
        found = answer.json() if "json" in answer.headers.get("content-type", "") else answer.text
        if not (isinstance(found, dict) and "event_id" in found and "/call/" in request.path):
            return answer.status_code if bare else found
        event = self.client.get(f"{request.path}/{found['event_id']}").text
        data = json.loads(event.rpartition("data: ")[2])
        if event.startswith("event: error"):
            return Refused(str(data.get("error") if isinstance(data, dict) else data))
        (line,) = data
        return Refused(line["error"]) if line["error"] else (200 if bare else line)


def _refusals(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except UserError as error:
        return Refused(str(error))


def _write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def _loader(backbone: Backbone) -> Callable[..., Backbone]:
    from lsn_core.backbones.loading import load_backbone

    def load(name: str = "embedded", device: str = "auto", cache_dir: str | None = None) -> Backbone:
        return backbone if name == backbone.name and device == "auto" else load_backbone(name, device, cache_dir)

    return load


def _said(text: str) -> str:
    """The sentence of a refused command, without the box around those of the command line's own parser."""
    if text.startswith("Error: "):
        return text.removeprefix("Error: ").removesuffix("\n")
    words = " ".join(re.sub(r"[│╭╮╰╯─]", " ", text.partition("╭")[2] or text).split()).removeprefix("Error ")
    return words if words.endswith((".", ")", "'", "?")) else f"{words}."


def _detail(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return answer.text.strip()
