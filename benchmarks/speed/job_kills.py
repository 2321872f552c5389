"""Kills the worker, or the app, at random moments of a job's life: it must end done, with an undisturbed run's weights.

    python -m benchmarks.speed.job_kills --kills 20 [--who worker|app|both] [--queue redis://HOST:PORT/DB]

Each kill has a job of its own and comes at a random moment within its share of an undisturbed job's time, so that all
of its life is covered, from when it waits for its worker to start; then one more job is killed again and again. After
every kill the registry is audited. What is killed by SIGKILL is the worker's process, or that of `python app.py`, which
takes its worker along.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file

from benchmarks.harness.report import environment, write_results
from lsn_core import TrainConfig, get_preset, load_backbone, train
from lsn_core.data.features import extract_features
from lsn_core.data.labelled import load_data
from lsn_core.data.sampling import few_shot
from lsn_core.jobs import Job, Jobs
from lsn_core.jobs.job import ACTIVE
from lsn_core.jobs.storage.audit import audit
from lsn_core.jobs.worker.pipeline import BATCH

REPO = Path(__file__).resolve().parents[2]
EXAMPLES = REPO / "assets" / "examples"
OWNER = "the benchmark's token"
PATIENCE = 600.0  # seconds for what takes a few: the machine may be busy
Host = Callable[..., AbstractContextManager["subprocess.Popen[bytes]"]]  # `worker` or `app`


def crops(folder: Path, names: Sequence[str] = ("cat", "elephant", "zebra"), count: int = 24) -> Path:
    """Class folders with crops of example photos: real pictures, enough for a job that takes seconds."""
    for name in names:
        (folder / name).mkdir(parents=True)
        image = Image.open(EXAMPLES / f"{name}.jpg")
        for i in range(count):
            box = (4 * (i % 8), 3 * (i // 8), image.width - 2 * i, image.height - 3 * (i % 8))
            image.crop(box).save(folder / name / f"{i:02}.png")
    return folder


def short_config(epochs: int = 30, seed: int = 0) -> TrainConfig:
    """The fast preset with a number of steps that suits a few photos."""
    config = get_preset("fast", shots=32, seed=seed)
    return replace(
        config,
        positive=replace(config.positive, epochs=epochs),
        negative=replace(config.negative, epochs=2 * epochs),
    )


def undisturbed(data: Path, config: TrainConfig) -> dict[str, torch.Tensor]:
    """The tensors of the detector that training without jobs, breaks or checkpoints gives, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        images = load_data(data)
        images = images.subset(few_shot(images, config.shots, config.seed))
        backbone = load_backbone(device="cpu")
        features = extract_features(backbone, images, cache=None, batch_size=BATCH, progress=False).features
        detector = train(features, images.labels, images.class_names, backbone, config)
        assert detector.calibration is not None
        calibration = torch.from_numpy(detector.calibration.scores)
        contexts = {f"contexts.{name}": value.detach() for name, value in detector.contexts.items()}
        prompts = {"positive": detector.positive, "negative": detector.negative}
        return prompts | {"calibration": calibration} | contexts | detector.fit.tensors()
    finally:
        torch.set_num_threads(threads)


def same_weights(detector: Path, wanted: dict[str, torch.Tensor]) -> bool:
    """Whether a detector file holds these tensors, to the bit."""
    found = load_file(detector)
    return found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)


@contextmanager
def worker(folder: Path, *options: str, queue: str | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A worker process, ended in good order at last."""
    command = [
        sys.executable,
        "-m",
        "lsn_core",
        "worker",
        "--data",
        str(folder),
        "--threads",
        "1",
        "--device",
        "cpu",
        "--checkpoint-seconds",
        "0.3",
        *(["--queue", queue] if queue else []),
        *options,
    ]
    with open(folder / "worker.log", "ab") as log:
        process = subprocess.Popen(command, cwd=REPO, stdout=log, stderr=subprocess.STDOUT)
    yield from _ending(process)


@contextmanager
def app(folder: Path, queue: str | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """The app's process, ended in good order at last."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {
        "GRADIO_SERVER_PORT": str(port),
        "LSN_DATA": str(folder),
        "LSN_JOB_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        **({"LSN_QUEUE": queue} if queue else {}),
    }
    with open(folder / "app.log", "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "app.py"], cwd=REPO, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    yield from _ending(process)


def _ending(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(jobs: Jobs, job_id: str, *wanted: str, patience: float = PATIENCE) -> Job:
    """The job once it is in one of those states."""
    deadline = time.monotonic() + patience
    while (job := jobs.registry.get(job_id)) is None or job.state not in wanted:
        if time.monotonic() > deadline:
            raise TimeoutError(f"job {job_id} is {job and job.state}, not {' or '.join(wanted)}: {job and job.error}")
        time.sleep(0.02)
    return job


@dataclass(frozen=True)
class Kill:
    """One kill: how long after the job had begun (or, below 0, how long before) it came, and how it all ended."""

    seconds: float
    state: str
    final_state: str
    same_weights: bool
    problems: list[str]


class Trial:
    """A data directory, a data set and the weights that every job must end with."""

    def __init__(self, folder: Path, who: str, queue: str | None = None, photos: int = 24, epochs: int = 30) -> None:
        self.folder = folder / "data"
        self.folder.mkdir()
        hosts: dict[str, Callable[..., AbstractContextManager[subprocess.Popen[bytes]]]] = {
            "worker": worker,
            "app": app,
        }
        self.host, self.queue = hosts[who], queue
        self.images, self.config = crops(folder / "images", count=photos), short_config(epochs)
        self.wanted = undisturbed(self.images, self.config)
        self.jobs = Jobs(self.folder, queue_url=queue)

    def submit(self) -> str:
        """A new job's id; the feature cache is emptied before, so that each job has all of its life."""
        self.jobs.files.clear_cache()
        return self.jobs.submit(self.images, OWNER, self.config).id

    def life(self) -> tuple[float, float]:
        """Seconds that an undisturbed job waits for its worker to start, and that it then takes."""
        job_id = self.submit()
        with self.host(self.folder, queue=self.queue):
            started = time.time()
            job = wait_for(self.jobs, job_id, "done", "failed")
        assert job.started and job.finished
        self._finish(job_id)
        return job.started - started, job.finished - job.started

    def kill(self, moments: Sequence[float]) -> list[Kill]:
        """Runs one job, killing its host at each of these moments of its life, and then lets it end.

        Args:
            moments: seconds since the job was begun, or, below 0, since the host was started.
        """
        job_id, struck = self.submit(), []
        for moment in moments:
            with self.host(self.folder, queue=self.queue) as process:
                if moment >= 0:
                    wait_for(self.jobs, job_id, *ACTIVE, "done")
                time.sleep(abs(moment))
                process.send_signal(signal.SIGKILL)
                process.wait()
                struck.append((moment, self.jobs.registry.get(job_id).state, audit(self.folder)))  # type: ignore[union-attr]
        with self.host(self.folder, queue=self.queue):
            final = wait_for(self.jobs, job_id, "done", "failed")
        same = final.result is not None and same_weights(self.jobs.files.folder(job_id) / final.result, self.wanted)
        problems = audit(self.folder)
        self._finish(job_id)
        return [Kill(round(moment, 2), state, final.state, same, found + problems) for moment, state, found in struck]

    def _finish(self, job_id: str) -> None:
        self.jobs.delete(job_id)

    def run(self, kills: int, repeated: int, seed: int) -> dict[str, Any]:
        """So many single kills, then one job killed repeatedly; a summary."""
        rng = random.Random(seed)
        waits, works = self.life()
        found: list[Kill] = []
        for i in range(kills):
            share = 1.1 * (i + rng.random()) / kills - 0.1  # the first tenth strikes while it waits
            found += self.kill([works * share if share >= 0 else 10 * share * waits])
            print(found[-1], flush=True)
        again = self.kill([rng.uniform(0, works) for _ in range(repeated)]) if repeated else []
        print(*again, sep="\n", flush=True)
        every = found + again
        return {
            "undisturbed_s": round(works, 2),
            "kills": len(every),
            "states_when_killed": dict(Counter(kill.state for kill in every)),
            "ended_done": sum(kill.final_state == "done" for kill in every),
            "same_weights": sum(kill.same_weights for kill in every),
            "registry_problems": sum(len(kill.problems) for kill in every),
            "single": [vars(kill) for kill in found],
            "one_job_again_and_again": [vars(kill) for kill in again],
        }


def main() -> None:
    """Measures and writes benchmarks/results/job_kills.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--repeated", type=int, default=5, help="kills of one more job")
    parser.add_argument("--epochs", type=int, default=100, help="of a job: how long it trains")
    parser.add_argument("--who", choices=("worker", "app", "both"), default="both")
    parser.add_argument("--queue", help="address of a Redis server; default: SQLite")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="job_kills", help="name of the results file")
    options = parser.parse_args()
    results: dict[str, Any] = {"queue": "redis" if options.queue else "sqlite"}
    for who in ("worker", "app") if options.who == "both" else (options.who,):
        with tempfile.TemporaryDirectory() as folder:
            trial = Trial(Path(folder), who, options.queue, epochs=options.epochs)
            with closing(trial.jobs):
                results[who] = trial.run(options.kills, options.repeated, options.seed)
    path = write_results(options.out, results | environment(options.seed))
    print(path)


if __name__ == "__main__":
    main()
