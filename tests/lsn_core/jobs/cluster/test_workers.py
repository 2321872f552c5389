"""Jobs on a real Ray cluster of several nodes on this machine: nodes, processes and the worker itself are killed."""

from __future__ import annotations

import getpass
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from ray.cluster_utils import Cluster
from ray.util import get_node_ip_address
from support import fewer_updates, until
from torch import Tensor

from benchmarks.speed.job_kills import crops, same_weights, undisturbed, wait_for, worker
from lsn_core import TrainConfig, get_preset
from lsn_core.jobs import Jobs
from lsn_core.jobs.cluster.workers import AWAY, FULL
from lsn_core.jobs.storage.audit import audit

pytestmark = pytest.mark.timeout(900)  # on a machine that may be busy
STORE = 100 * 2**20
# As a node that is gone is noticed in seconds, not in half a minute.
HEALTH = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 2,
    "prestart_worker_first_driver": False,
}


class Machines:
    """A cluster whose head, on which no job finds room, is started when it is asked for."""

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="lsn-", dir="/tmp")  # sockets' paths must be short
        with socket.socket() as probe:
            probe.bind(("", 0))
            self._port = probe.getsockname()[1]
        self.address = f"{get_node_ip_address()}:{self._port}"
        self._temporary = Path(self._folder, "temporary")
        self._temporary.mkdir()
        self._cluster: Any = None

    def start(self) -> None:
        """Starts the head."""
        options = {"num_cpus": 0, "gcs_server_port": self._port, "object_store_memory": STORE, "_system_config": HEALTH}
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RAY_TMPDIR", self._folder)  # others who use Ray on this machine are not to find it
            self._cluster = Cluster(initialize_head=True, head_node_args=options | {"include_dashboard": False})

    def add(self) -> Any:
        """Another node, with room for one job."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TMPDIR", str(self._temporary))
            return self._cluster.add_node(num_cpus=1, object_store_memory=STORE)

    def kill(self, node: Any) -> None:
        """As a power cut would: the node's own process gets SIGKILL, and its workers end with it."""
        self._cluster.remove_node(node, allow_graceful=False)

    def attempts(self) -> list[psutil.Process]:
        """The processes in which jobs are done."""
        found = [process for process in psutil.process_iter() if "RemoteAttempt" in told(process)]
        return [process for process in found if self._folder in told(process.parent())]

    def scratch(self) -> list[str]:
        """What attempts have left in the folders for temporary files."""
        base = self._temporary / f"lsn-jobs-{getpass.getuser()}"
        return [path.name for path in base.iterdir() if path.name != "making"]

    def close(self) -> None:
        """Ends it all."""
        if self._cluster is not None:
            self._cluster.shutdown()
        shutil.rmtree(self._folder, ignore_errors=True)


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    with closing(Machines()) as machines:
        yield machines


@dataclass(frozen=True)
class Trial:
    """A data directory, a data set and the weights that a job must end with."""

    folder: Path
    images: Path
    config: TrainConfig
    wanted: dict[str, Tensor]
    jobs: Jobs


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    folder = tmp_path_factory.mktemp("trial")
    images, config = crops(folder / "images", count=8), fewer_updates(get_preset("fast", shots=32), 20, 30)
    (folder / "data").mkdir()
    with closing(Jobs(folder / "data")) as jobs:
        yield Trial(folder / "data", images, config, undisturbed(images, config), jobs)


@pytest.fixture
def submitter(trial: Trial, machines: Machines) -> Any:
    """Starts a worker that has jobs done on the cluster."""

    def start(*options: str) -> AbstractContextManager[subprocess.Popen[bytes]]:
        return worker(trial.folder, "--cluster", machines.address, *options)

    return start


def test_a_job_waits_for_its_cluster_outlives_a_node_and_its_worker_and_ends_with_the_bits_of_training_here(
    trial: Trial, machines: Machines, submitter: Any
) -> None:
    jobs, job_id = trial.jobs, trial.jobs.submit(trial.images, "cem", trial.config).id
    with submitter() as process:
        until(lambda: jobs.hindrance() == AWAY)
        machines.start()
        until(lambda: jobs.hindrance() == FULL.format("CPU"))  # no node has room
        assert jobs.get(job_id).state == "queued"
        node = machines.add()
        until((jobs.files.folder(job_id) / "training.safetensors").exists)
        machines.kill(node)
        until(lambda: "interrupted" in states(trial, job_id))
        stood = jobs.get(job_id)
        assert stood.losses == 0 and 0 < stood.step < stood.total
        machines.add()
        until(lambda: jobs.get(job_id).step > stood.step)
        assert len(machines.attempts()) == 1
        process.send_signal(signal.SIGKILL)
        process.wait()
    until(lambda: not jobs.working())  # the process that passed on ends with the worker
    assert jobs.get(job_id).state == "interrupted" and audit(trial.folder) == []
    until(lambda: not machines.attempts())  # and so does what it had begun on the cluster
    with submitter():
        job = wait_for(jobs, job_id, "done", "failed")
    assert job.state == "done", job.error
    assert same_weights(jobs.result(job_id), trial.wanted)
    cut = ["queued", "preparing", "training", "interrupted"]
    assert states(trial, job_id) == [*cut, *cut, "queued", "preparing", "training", "evaluating", "done"]
    assert next(point.step for point in jobs.progress(job_id)) == 1 and job.step == job.total
    log = (jobs.files.folder(job_id) / "log.txt").read_text()
    assert "The node is gone" in log and log.count("Going on from step") == 2 and log.count("24 encoded") == 1
    kept = sorted(path.name for path in jobs.files.folder(job_id).iterdir())
    assert kept == ["detector.safetensors", "log.txt"]
    assert audit(trial.folder) == [] and machines.scratch() == []


def test_owners_take_turns_and_a_stop_or_a_killed_process_keeps_what_was_done(
    trial: Trial, machines: Machines, submitter: Any
) -> None:
    jobs = trial.jobs
    long = fewer_updates(trial.config, 5000, 5000)
    first, second = (jobs.submit(trial.images, "ann", long).id for _ in range(2))
    other = jobs.submit(trial.images, "ben", long).id
    with submitter():
        until(lambda: (jobs.files.folder(first) / "training.safetensors").exists())
        assert jobs.hindrance() == ""  # others wait for this job, not for the cluster
        (process,) = machines.attempts()
        process.kill()
        until(lambda: "interrupted" in states(trial, first))
        left = [first, second, other]
        while left:  # whoever looks for room may find that of the process which was killed before its job is back
            until(lambda: any(jobs.get(job).active for job in left))
            job = next(job for job in left if jobs.get(job).active)
            if job == first:
                until(lambda: jobs.get(first).state == "training")
            stop_quickly(trial, job)
            left.remove(job)
    turns = [job for job, _, state in jobs.registry.history() if state == "preparing" and job in (first, second, other)]
    assert turns in ([first, first, other, second], [first, other, first, second])
    assert (jobs.files.folder(first) / "training.safetensors").is_file()
    assert audit(trial.folder) == [] and not machines.attempts()


def told(process: psutil.Process | None) -> str:
    """Its command line; empty once it is gone."""
    try:
        return "" if process is None else " ".join(process.cmdline())
    except psutil.Error:
        return ""


def states(trial: Trial, job_id: str) -> list[str]:
    return [state for _, _, state in trial.jobs.registry.history(job_id)]


def stop_quickly(trial: Trial, job_id: str) -> None:
    begun = time.monotonic()
    assert trial.jobs.stop(job_id).state == "stopped"
    assert time.monotonic() - begun < 4.0
