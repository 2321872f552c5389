"""The app as on ZeroGPU, with Hugging Face's own package: model work goes to a forked process, training in slices.

What is not real is the service that lends GPUs, a local server here, and the GPU: models move from CPU to CPU.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from gradio_client import Client, handle_file
from support import serving

from benchmarks.speed.job_kills import Trial, same_weights, wait_for
from lsn_app.serving import accelerator
from lsn_core import Backbone, Detector
from lsn_core.backbones.image_tower import view_image
from lsn_core.data.images import open_image
from lsn_core.heatmaps.maps import explain

CLASSES = "dog, cat, elephant"
PROGRAM = """
import runpy, sys, types
stub = types.ModuleType("spaces.zero.torch")  # all of the package that needs CUDA
for name in ("enter_mode", "patch", "unpatch", "init", "move", "is_in_bad_fork"):
    setattr(stub, name, lambda *_, **__: None)
stub.pack = stub.size = lambda *_, **__: 0
sys.modules["spaces.zero.torch"] = stub
runpy.run_path("app.py", run_name="__main__")
"""


class Lender:
    """The service that lends GPUs: what it was asked for, and whether it has any."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.seconds: list[int] = []
        self.generous = True

    @contextmanager
    def serve(self) -> Iterator[str]:
        lender = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                address = urlsplit(self.path)
                lender.calls[address.path] += 1
                answer: dict[str, object] = {}
                status = 200
                if address.path == "/schedule":
                    if lender.generous:
                        lender.seconds.append(int(parse_qs(address.query)["durationSeconds"][0]))
                        answer = {"idle": True, "nvidiaIndex": 0, "nvidiaUUID": "none", "allowToken": "token"}
                    else:
                        status = 503
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                return

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield f"http://127.0.0.1:{server.server_port}"
            server.shutdown()


def test_on_zero_gpu_photos_maps_and_jobs_go_where_the_gpu_is(
    tmp_path: Path, examples: Path, embedded: Backbone
) -> None:
    deep = tmp_path / ("a folder whose name is long " * 5)  # longer than the path of a socket may be
    deep.mkdir()
    trial, lender = Trial(deep, "app", photos=8), Lender()
    with closing(trial.jobs) as jobs, lender.serve() as api, ExitStack() as stack:
        environment = os.environ | {
            "SPACES_ZERO_GPU": "true",
            "SPACES_ZERO_DEVICE_API_URL": api,
            "LSN_DATA": str(jobs.folder),
            "LSN_SLICE_SECONDS": "0.4",
            "LSN_BACKBONE": "embedded",
            "HOME": str(tmp_path),
        }
        address = stack.enter_context(serving([sys.executable, "-c", PROGRAM], environment, tmp_path / "log.txt"))
        assert lender.calls["/startup-report"] == 1
        client = Client(address, verbose=False)
        photo = handle_file(str(examples / "dog.jpg"))
        judge = Detector.zero_shot(embedded, CLASSES.split(", "))

        scored = client.predict(photo, CLASSES, api_name="/score")
        assert scored["predicted_class"] == "dog"
        assert scored["score"] == pytest.approx(judge.predict([examples / "dog.jpg"])[0].score, abs=1e-5)
        assert lender.calls["/schedule"] >= 2 and lender.calls["/allow"] == 1  # one process serves all calls

        before = lender.calls["/schedule"]
        drawn = client.predict(photo, CLASSES, "cat", "grad-cam", api_name="/heatmap")
        wanted = explain(judge, view_image(embedded, open_image(examples / "dog.jpg")), "cat", "grad-cam")
        np.testing.assert_allclose([one["grid"] for one in drawn["maps"]], wanted.values, atol=1e-4)
        assert lender.calls["/schedule"] == before + 1
        refused = client.predict(photo, CLASSES, "cat", "legrad", api_name="/heatmap")
        assert "has none" in refused["error"]  # a sentence comes back whole

        lender.generous = False
        other = client.predict(handle_file(str(examples / "cat.jpg")), CLASSES, api_name="/score")
        assert other["predicted_class"] == "cat"  # without a GPU, on the CPU
        lender.generous = True

        before, lender.seconds = lender.calls["/schedule"], []
        job_id = trial.submit()
        job = wait_for(jobs, job_id, "done", "failed", patience=120)
        assert job.state == "done", job.error
        assert same_weights(jobs.result(job_id), trial.wanted)
        assert lender.calls["/schedule"] - before == len(lender.seconds) >= 2 and set(lender.seconds) == {20}


def test_elsewhere_calls_are_plain_calls() -> None:
    assert not accelerator.ZERO_GPU
    assert accelerator.run(os.getpid) == os.getpid()
