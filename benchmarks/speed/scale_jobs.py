"""What a training job costs on a Ray cluster beside one on this machine, and whether its bits are the same.

    python -m benchmarks.speed.scale_jobs

The cluster is on this machine, of a head and two nodes with a CPU each: what is measured is what Ray and the way to a
node add, not other machines. Two jobs are submitted at once, to a worker that is ready.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.harness.report import environment, markdown_table
from benchmarks.speed.job_kills import crops, same_weights, undisturbed, wait_for, worker
from lsn_core import TrainConfig, get_preset
from lsn_core.jobs import Job, Jobs
from lsn_core.jobs.job import TRAINING
from lsn_core.jobs.storage.audit import audit

STORE = 100 * 2**20  # bytes of each node for objects


@contextmanager
def nodes(count: int) -> Iterator[str]:
    """The address of a cluster on this machine, with a head that does no jobs and so many nodes of one CPU."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "object_store_memory": STORE, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(count):
            cluster.add_node(num_cpus=1, object_store_memory=STORE)
        yield cluster.address
    finally:
        cluster.shutdown()


def section(jobs: int = 2, photos: int = 8, updates: int = 20) -> dict[str, Any]:
    """Has some jobs done here and on a cluster of as many nodes, and compares.

    Args:
        jobs: how many at once, of one owner each.
        photos: of each of three classes.
        updates: of positive prompts, and as many of negative ones; in each of three folds again.

    Returns:
        Of `here` and `cluster`: `all_s`, from the first submission to the last end; of the first job `wait_s` until
        it was begun, `prepare_s` until its first training step and `train_s` from there to its end; `same_bits` of all
        detectors; `problems` of the registry. Then `jobs`, and `steps` of a job.
    """
    results: dict[str, Any] = {"jobs": jobs}
    config = get_preset("fast", shots=32)
    config = replace(
        config,
        positive=replace(config.positive, updates=updates),
        negative=replace(config.negative, updates=updates),
    )
    with tempfile.TemporaryDirectory() as name, nodes(jobs) as address:
        images = crops(Path(name, "images"), count=photos)
        wanted = undisturbed(images, config)
        with closing(Jobs(Path(name, "data"))) as client:
            for place, options in (("here", ()), ("cluster", ("--cluster", address))):
                ended = _done(client, images, config, jobs, options)
                same = all(job.result and same_weights(client.result(job.id), wanted) for job in ended)
                results[place] = _times(client, ended) | {"same_bits": same, "problems": audit(client.folder)}
                results["steps"] = ended[0].total
    return results


def table(results: dict[str, Any]) -> str:
    """The results of `section` as a table in Markdown."""
    header = ["", "all jobs (s)", "wait (s)", "prepare (s)", "train (s)", "same bits"]
    names = {"here": "worker on this machine", "cluster": f"Ray, {results['jobs']} nodes"}
    rows = []
    for place, called in names.items():
        found = results[place]
        seconds = [f"{found[key]:.1f}" for key in ("all_s", "wait_s", "prepare_s", "train_s")]
        rows.append([called, *seconds, "yes" if found["same_bits"] else "no"])
    return markdown_table(header, rows)


def _done(client: Jobs, images: Path, config: TrainConfig, count: int, options: Sequence[str]) -> list[Job]:
    client.files.clear_cache()
    with worker(client.folder, *options):
        while not client.working():
            time.sleep(0.05)
        ids = [client.submit(images, f"owner {i}", config).id for i in range(count)]
        return [wait_for(client, job_id, "done", "failed") for job_id in ids]


def _times(client: Jobs, ended: Sequence[Job]) -> dict[str, float]:
    first = ended[0]
    training = min(at for _, at, state in client.registry.history(first.id) if state == TRAINING)
    assert first.started is not None
    return {
        "all_s": round(max(map(_finished, ended)) - first.created, 2),
        "wait_s": round(first.started - first.created, 2),
        "prepare_s": round(training - first.started, 2),
        "train_s": round(_finished(first) - training, 2),
    }


def _finished(job: Job) -> float:
    assert job.finished is not None, job.error
    return job.finished


def main() -> None:
    """Measures and shows it."""
    results = section()
    print(results | environment(0), table(results), sep="\n\n")


if __name__ == "__main__":
    main()
