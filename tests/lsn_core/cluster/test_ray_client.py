"""A cluster as `ray start` makes it, to which this machine is connected by ray:// or as a part of it, and its end."""

from __future__ import annotations

import csv
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import REPO, run_inside, until
from support_s3 import Bucket, s3_bucket

PHOTOS = 9


@dataclass
class Started:
    """A cluster of one machine.

    Attributes:
        port, client_port: of its head, and of Ray Client.
        environment: of programs that are to be connected to it.
        mark: in the environment of all of its processes, and of no others.
    """

    port: int
    client_port: int
    environment: dict[str, str]
    mark: str

    def kill(self) -> None:
        """All of its processes die at once."""
        for process in self.processes():
            os.kill(process, signal.SIGKILL)

    def processes(self) -> list[int]:
        """Those that live."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if f"TEST_CLUSTER={self.mark}".encode() in (process / "environ").read_bytes().split(b"\0"):
                    found.append(int(process.name))
            except OSError:  # it has ended meanwhile
                continue
        return found


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with s3_bucket() as bucket:
        yield bucket


@pytest.fixture(scope="module")
def cluster(bucket: Bucket) -> Iterator[Started]:
    """One whose machines come to the bucket with a key of their own; it asks for a token."""
    port, client_port = free_ports(2)
    folder = tempfile.mkdtemp(prefix="r", dir="/tmp")  # the path of a socket has at most 100 characters
    ours = {"PYTHONPATH": os.pathsep.join(sys.path), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "token-of-a-test" * 3}
    started = Started(port, client_port, os.environ | ours, folder)
    command = [Path(sys.executable).with_name("ray"), "start", "--head", f"--port={port}", "--num-cpus=2", "--block"]
    command += [f"--ray-client-server-port={client_port}", "--include-dashboard=false", "--disable-usage-stats"]
    command += [f"--temp-dir={folder}", f"--object-store-memory={150 * 2**20}"]
    theirs = started.environment | {"TEST_CLUSTER": folder, "AWS_ACCESS_KEY_ID": "machine"}
    theirs["RAY_prestart_worker_first_driver"] = "0"  # processes that nobody needs here
    theirs["RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S"] = "120"  # for a server to start on a busy machine
    ray = subprocess.Popen(command, env=theirs, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        # What starts a server for each client is there when it has begun its log; before, a client is refused.
        log = Path(folder, "session_latest", "logs", "runtime_env_agent.log")
        until(lambda: ray.poll() is not None or (log.exists() and log.stat().st_size and answers(client_port)))
        yield started
    finally:
        started.kill()
        ray.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def free_ports(count: int) -> list[int]:
    """So many that nobody listens at."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def answers(port: int) -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def test_a_bucket_is_scored_by_ray_client_as_without_a_cluster(
    cluster: Started, bucket: Bucket, tmp_path: Path
) -> None:
    for number in range(PHOTOS):
        file = io.BytesIO()
        noise = np.random.default_rng(number).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(noise).save(file, "JPEG")
        bucket.put(f"photos/{number}.jpg", file.getvalue())
    score = ["score", "s3://bucket/photos", "--classes", "dog,cat,elephant", "--out"]
    cloud = ["--ray", f"ray://127.0.0.1:{cluster.client_port}", "--ray-workers", "1"]
    command = [sys.executable, "-m", "lsn_core", *score, tmp_path / "there.csv", *cloud]
    for _ in range(3):
        done = subprocess.run(command, cwd=REPO, env=cluster.environment, capture_output=True, text=True, timeout=250)
        if "Starting Ray client server failed" not in done.stderr:  # Ray's own, for a client that comes very soon
            break
    assert done.returncode == 0, done.stderr
    assert done.stdout == "" and "Unclosed" not in done.stderr
    reads = {key: {path for who, path in bucket.reads if who == key} for key in ("somebody", "machine")}
    assert reads == {
        "somebody": {f"/bucket/photos/{n}.jpg" for n in (0, 4, 8)},
        "machine": {f"/bucket/photos/{n}.jpg" for n in range(PHOTOS)},
    }
    assert run_inside(*score, tmp_path / "here.csv").returncode == 0
    there, here = (
        list(csv.DictReader((tmp_path / f"{name}.csv").open(encoding="utf-8-sig"))) for name in ("there", "here")
    )
    assert len(there) == PHOTOS
    for one, other in zip(there, here, strict=True):
        assert float(one.pop("score")) == pytest.approx(float(other.pop("score")), rel=1e-5)
        assert one == other


def test_the_end_of_the_cluster_is_the_end_of_the_work(cluster: Started, tmp_path: Path) -> None:
    """The last test of this file, as it leaves no cluster."""
    environment = cluster.environment | {"RAY_CLIENT_RECONNECT_GRACE_PERIOD": "2"}
    running = {}
    for address in (f"127.0.0.1:{cluster.port}", f"ray://127.0.0.1:{cluster.client_port}"):
        folder = tmp_path / address.partition(":")[0]
        folder.mkdir()
        output = (folder / "out").open("w+"), (folder / "err").open("w+")
        command = [sys.executable, REPO / "tests" / "endless_squares.py", address, folder]
        running[address] = subprocess.Popen(command, env=environment, stdout=output[0], stderr=output[1]), output
    until(lambda: all(output.name and Path(output.name).stat().st_size for _, (output, _) in running.values()))
    cluster.kill()
    for address, (process, (out, err)) in running.items():
        code, told = process.wait(100), Path(err.name).read_text()
        out.close(), err.close()
        assert code == 2, told
        assert f"Error: The Ray cluster ({address}) no longer answers, in the middle of the work." in told
        assert "Traceback" not in told
    until(lambda: not cluster.processes())
