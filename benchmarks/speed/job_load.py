"""Ten jobs of three owners on one worker, while the app's Detect tab answers: fair turns, none lost, and how fast.

    python -m benchmarks.speed.job_load [--jobs 10] [--requests 40]

The app runs as its users run it (`python app.py`, its worker at lower priority). Its public endpoint scores a new photo
with each request, one after the other: first while nothing else happens, then while the jobs are done.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import torch
from gradio_client import Client, handle_file
from PIL import Image

from benchmarks.harness.report import environment, write_results
from benchmarks.speed.job_kills import EXAMPLES, PATIENCE, REPO, crops, short_config
from lsn_core import load_backbone
from lsn_core.jobs import Jobs
from lsn_core.jobs.job import FINISHED
from lsn_core.jobs.storage.audit import audit

OWNERS = ("ann", "ben", "cem")
CLASSES = (("cat", "dog", "zebra"), ("church", "guitar", "daisy"), ("turtle", "flamingo", "elephant"))


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of an app with this data directory."""
    with running(folder) as (address, _):
        yield address


@contextmanager
def running(folder: Path, **variables: str) -> Iterator[tuple[str, int]]:
    """The same and its process number; with more environment variables."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # What is measured is an app that has been up for a while: its image tower is compiled, as it is after a minute.
    settings = os.environ | {"TORCH_HOME": str(home_of_towers()), "GRADIO_SERVER_PORT": str(port)}
    settings |= {"LSN_DATA": str(folder), **variables}
    address = f"http://127.0.0.1:{port}"
    with open(folder / "app.log", "wb") as log:
        process = subprocess.Popen([sys.executable, "app.py"], cwd=REPO, env=settings, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                urllib.request.urlopen(address, timeout=5).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((folder / "app.log").read_text()[-2000:]) from None
                time.sleep(0.2)
        yield address, process.pid
    finally:
        process.terminate()
        process.wait(60)


def home_of_towers() -> Path:
    """torch's folder, in which the embedded backbone's image tower is kept compiled, where it can be."""
    load_backbone("embedded", "cpu").runtime.compile()
    return Path(torch.hub.get_dir()).parent


def new_photos(folder: Path) -> Callable[[], Path]:
    """A function that gives a photo that nobody has seen before."""
    folder.mkdir()
    numbers, sources = count(), sorted(EXAMPLES.glob("*.jpg"))

    def take() -> Path:
        number = next(numbers)
        path = folder / f"{number}.png"
        image = Image.open(sources[number % len(sources)])
        image.crop((number // len(sources), 0, image.width, image.height)).save(path)
        return path

    return take


def main() -> None:
    """Measures and writes benchmarks/results/job_load.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10)
    parser.add_argument("--requests", type=int, default=40, help="before the jobs, and at least while they are done")
    parser.add_argument("--epochs", type=int, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        results = measure(Path(name), options)
    print(write_results("job_load", results | environment(0)))
    print({key: value for key, value in results.items() if not isinstance(value, list)})


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Runs it all in a folder of its own."""
    (folder / "data").mkdir()
    take = new_photos(folder / "photos")
    sets = [crops(folder / owner, names) for owner, names in zip(OWNERS, CLASSES, strict=True)]
    with serving(folder / "data") as address, closing(Jobs(folder / "data")) as jobs:
        client = Client(address, verbose=False)

        def ask() -> float:
            photo = handle_file(take())
            begun = time.perf_counter()
            line = client.predict(photo, "dog, cat, elephant", 0.95, api_name="/score")
            assert line["error"] is None
            return time.perf_counter() - begun

        for _ in range(5):
            ask()
        idle = [ask() for _ in range(options.requests)]
        # Ann queues all of hers first; fair turns must not let the others wait for them.
        owners = sorted(range(options.jobs), key=lambda i: i % len(OWNERS))
        submitted = {}
        for i in owners:
            config = short_config(options.epochs, seed=i)
            owner = i % len(OWNERS)
            submitted[jobs.submit(sets[owner], OWNERS[owner], config).id] = OWNERS[owner]
        begun = time.monotonic()
        loaded = []
        while any(job.state not in FINISHED for job in jobs.registry.jobs()):
            loaded.append(ask())
            if time.monotonic() - begun > 60 * PATIENCE:
                raise TimeoutError("the jobs do not come to an end")
        seconds = time.monotonic() - begun
        done = [job for job in jobs.list() if job.state == "done"]
        turns = [submitted[job_id] for job_id, _, state in jobs.registry.history() if state == "preparing"]
        problems = audit(folder / "data")
    wanted = [OWNERS[i % len(OWNERS)] for i in range(options.jobs)]
    return {
        "jobs": options.jobs,
        "done": len(done),
        "seconds": round(seconds, 1),
        "registry_problems": problems,
        "turns": turns,
        "fair": turns == wanted,
        "idle_median_s": round(statistics.median(idle), 4),
        "loaded_median_s": round(statistics.median(loaded), 4),
        "ratio": round(statistics.median(loaded) / statistics.median(idle), 3),
        "idle_requests": len(idle),
        "loaded_requests": len(loaded),
        "loaded_p90_s": round(statistics.quantiles(loaded, n=10)[-1], 4),
        "load_average": [round(value, 2) for value in os.getloadavg()],
    }


if __name__ == "__main__":
    main()
