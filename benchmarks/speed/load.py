"""Many clients at once: 64 of them ask for verdicts, probes and heat maps for a minute. How long do they wait?

    python -m benchmarks.speed.load [--clients 64] [--seconds 60] [--label NAME]

The app runs as its users run it (`python app.py`, the embedded backbone), behind a pretended proxy that tells whose
request it is, on the machine that also runs the clients (Locust). Every photo is a crop that was never seen before, so
that the image encoder works for each. A wait is from the call until the answer; uploads are counted apart. Refusals
("busy") are no errors, and the client waits as long as they say. Answers are held against those of the library, which
encodes one photo at a time.
"""

from __future__ import annotations

# isort: off
import gevent
from locust import HttpUser, between, task  # first: it makes sockets and threads yield to one another
from locust.env import Environment

# isort: on
import argparse
import io
import itertools
import json
import os
import random
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image

from benchmarks.harness.report import RESULTS, environment, write_results
from benchmarks.speed.job_kills import EXAMPLES
from benchmarks.speed.job_load import running
from lsn_core import Detector, load_backbone
from lsn_core.data.images import open_image
from lsn_core.negation import choose

CLASSES = "dog, cat, elephant, flamingo"
TEXTS = ["a photo of a zebra", "not a photo of a zebra"]
_API = "/gradio_api"
_CHECKED = 60  # answers that are held against the library's


class Client(HttpUser):
    """One client with an address of its own."""

    wait_time = between(0.0, 0.2)
    numbers = itertools.count()
    photos = itertools.count()
    sources = sorted(EXAMPLES.glob("*.jpg"))
    answers: ClassVar[list[dict[str, Any]]] = []
    outcomes: ClassVar[Counter[str]] = Counter()

    def on_start(self) -> None:
        """Takes an address."""
        number = next(self.numbers)
        self.client.headers["X-Forwarded-For"] = f"198.51.{number // 250}.{number % 250 + 1}"

    @task(6)
    def verdict(self) -> None:
        """One verdict."""
        self.ask("score", CLASSES, 0.95)

    @task(3)
    def probe(self) -> None:
        """One choice between texts."""
        self.ask("probe", TEXTS)

    @task(1)
    def heat_map(self) -> None:
        """One heat map."""
        self.ask("heatmap", CLASSES, "dog", "grad-cam")

    def ask(self, endpoint: str, *arguments: Any) -> None:
        """Uploads a new photo and asks about it."""
        photo = self.new_photo()
        sent = self.client.post(f"{_API}/upload", files={"files": ("photo.jpg", photo)}, name="upload")
        if sent.status_code != 200:
            self.outcomes[f"upload: {sent.status_code}"] += 1
            return
        begun = time.perf_counter()
        data = [{"path": sent.json()[0]}, *arguments]
        with self.client.post(
            f"{_API}/call/{endpoint}", json={"data": data}, name=f"{endpoint}, begun", catch_response=True
        ) as call:
            if call.status_code in (429, 503):
                call.success()
                self.outcomes["busy"] += 1
                gevent.sleep(float(call.headers.get("Retry-After", 1)))
                return
        if call.status_code != 200:
            self.outcomes[f"{endpoint}: {call.status_code}"] += 1
            return
        told = self.client.get(f"{_API}/call/{endpoint}/{call.json()['event_id']}", name=endpoint).text
        seconds = time.perf_counter() - begun
        found = json.loads(told.rpartition("data: ")[2] or "null")
        if told.startswith("event: complete") and not found[0]["error"]:
            self.outcomes[endpoint] += 1
            self.answers.append({"endpoint": endpoint, "seconds": seconds, "photo": photo, "answer": found[0]})
        else:
            busy = "full" in told or "busy" in told
            self.outcomes["busy" if busy else f"{endpoint}: {told[:200]}"] += 1

    def new_photo(self) -> bytes:
        """A photo that nobody has seen before."""
        number = next(self.photos)
        with Image.open(self.sources[number % len(self.sources)]) as image:
            shift = number // len(self.sources)
            cut = image.crop((shift % 20, shift // 20 % 20, image.width, image.height))
        file = io.BytesIO()
        cut.save(file, "JPEG", quality=90)
        return file.getvalue() + str(number).encode()  # what comes after the picture's end is not read


def main() -> None:
    """Measures, and writes results/load.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--label", default="now", help="the name of this run in the results; others stay")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running(Path(folder), LSN_PROXIED="1") as (address, process):
        single = run(address, process, 1, 10)
        many = run(address, process, options.clients, options.seconds)
        differing = compare(many.pop("answers"))
    single.pop("answers")
    bare = bare_encoder()
    row = {"clients": options.clients, **many, "one client": single, **differing, "bare encoder, photos a second": bare}
    path = RESULTS / "load.json"
    kept = json.loads(path.read_text())["runs"] if path.exists() else {}
    command = "python -m benchmarks.speed.load"
    write_results("load", {"command": command, **environment(0), "runs": kept | {options.label: row}})
    print(json.dumps(row, indent=2))


def run(address: str, process: int, clients: int, seconds: int) -> dict[str, Any]:
    """What so many clients meet."""
    random.seed(0)
    Client.answers, Client.outcomes = [], Counter()
    Client.host = address
    users = Environment(user_classes=[Client], catch_exceptions=True)
    runner = users.create_local_runner()
    begun, worked = time.perf_counter(), cpu_seconds(process)
    runner.start(clients, spawn_rate=clients)
    gevent.sleep(seconds)
    runner.quit()
    spent = time.perf_counter() - begun
    waits = {
        name: percentiles([one["seconds"] for one in Client.answers if name in (one["endpoint"], "all")])
        for name in ("all", "score", "probe", "heatmap")
    }
    known = {"score", "probe", "heatmap", "busy"}
    return {
        "seconds": round(spent, 1),
        "answers a second": round(len(Client.answers) / spent, 2),
        "CPU seconds an answer": round((cpu_seconds(process) - worked) / max(1, len(Client.answers)), 3),
        "busy": Client.outcomes["busy"],
        "errors": {name: count for name, count in Client.outcomes.items() if name not in known},
        "waits": waits,
        "answers": Client.answers,
    }


def cpu_seconds(process: int) -> float:
    """Time that a process has worked, on all cores together: other programs on the machine do not change it much."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def percentiles(seconds: list[float]) -> dict[str, float]:
    """Median, 90th and 99th percentile, and the longest."""
    if len(seconds) < 2:
        return {"n": len(seconds)}
    cuts = statistics.quantiles(seconds, n=100)
    picked = {"p50_s": cuts[49], "p90_s": cuts[89], "p99_s": cuts[98], "longest_s": max(seconds)}
    return {"n": len(seconds), **{name: round(value, 3) for name, value in picked.items()}}


def compare(answers: list[dict[str, Any]]) -> dict[str, Any]:
    """How far answers lie from what the library says of the same photos, one at a time."""
    backbone = load_backbone("embedded", "cpu")
    detector = Detector.zero_shot(backbone, CLASSES.split(", "))
    chosen = [one for one in answers if one["endpoint"] != "heatmap"]
    chosen = random.Random(0).sample(chosen, min(_CHECKED, len(chosen)))
    farthest, other = 0.0, 0
    for one in chosen:
        feature, answer = backbone.encode_images([open_image(one["photo"])]), one["answer"]
        if one["endpoint"] == "score":
            (right,) = detector.predict_features(feature)
            pairs = list(zip(answer["positive"].values(), right.positive.values(), strict=True))
            other += answer["verdict"] != right.verdict
        else:
            choice = choose(feature[0], TEXTS, backbone)
            pairs = list(zip(answer["cosines"], choice.cosines, strict=True))
            other += answer["chosen"] != choice.chosen
        farthest = max([farthest, *(abs(found - wanted) for found, wanted in pairs)])
    return {"compared": len(chosen), "other answers": other, "largest difference of a cosine": farthest}


def bare_encoder() -> dict[str, float]:
    """Photos a second through the image tower alone, by the size of a batch."""
    backbone = load_backbone("embedded", "cpu")
    pictures = [open_image(path) for path in sorted(EXAMPLES.glob("*.jpg"))]
    found = {}
    for size in (1, 8, 32):
        backbone.encode_images(pictures[:size])
        begun, done = time.perf_counter(), 0
        while time.perf_counter() - begun < 5:
            backbone.encode_images(pictures[:size])
            done += size
        found[str(size)] = round(done / (time.perf_counter() - begun), 2)
    return found


if __name__ == "__main__":
    main()
