"""The commands `worker` and `jobs`."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lsn_core.cli.options import DATA_HELP, ImageColumnOption, JsonOption, LabelColumnOption, SplitOption
from lsn_core.errors import UserError

if TYPE_CHECKING:
    from lsn_core.jobs import Job, Jobs

_END_SECONDS = 3.0

DataOption = Annotated[
    Path,
    typer.Option(
        envvar="LSN_DATA",
        help="Folder of jobs, their data sets and results.",
        default_factory=lambda: _default_folder(),
    ),
]
QueueOption = Annotated[
    str | None, typer.Option(envvar="LSN_QUEUE", help="redis://HOST:PORT/DB for a Redis server; default: SQLite.")
]
OwnerOption = Annotated[str | None, typer.Option(help="Only jobs of the owner with this token; default: of all.")]
JobArgument = Annotated[str, typer.Argument(help="Its id, as `jobs list` shows it.")]


def worker(
    data: DataOption,
    queue: QueueOption = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda:0, ...: one worker for each accelerator.")] = "auto",
    name: Annotated[str | None, typer.Option(help="Of the worker; only one of a name runs. Default: device.")] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads of a job; default: all cores but one.")
    ] = None,
    memory_gib: Annotated[float | None, typer.Option(help="A job that takes more main memory fails (Linux).")] = None,
    nice: Annotated[int, typer.Option(help="Lower the priority of jobs by this much.")] = 0,
    resume: Annotated[bool, typer.Option(help="Let interrupted jobs go on by themselves.")] = True,
    checkpoint_seconds: Annotated[float, typer.Option(min=0, help="Least time between a job's checkpoints.")] = 10.0,
    cluster: Annotated[
        str | None,
        typer.Option(
            envvar="LSN_CLUSTER", help="auto, HOST:PORT or ray://HOST:PORT: jobs are done on this Ray cluster."
        ),
    ] = None,
    cluster_jobs: Annotated[
        int | None,
        typer.Option(envvar="LSN_CLUSTER_JOBS", min=1, max=64, help="Most jobs there at once; default: as find room."),
    ] = None,
    with_parent: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Run training jobs, one at a time, until stopped (Ctrl-C). Its job is then interrupted and can go on later.

    With --cluster, as many at once as find room on the cluster.
    """
    from lsn_core.jobs import Worker, WorkerConfig
    from lsn_core.jobs.worker.parent import end_at_once, when_parent_ends

    logging.getLogger("lsn_core").setLevel(logging.INFO)
    config = WorkerConfig(device, name, threads, memory_gib, resume, queue, checkpoint_seconds)
    with _plainly(data):
        if cluster:
            from lsn_core.jobs.cluster.address import MOST_JOBS, check_cluster, check_ray
            from lsn_core.jobs.cluster.workers import ClusterConfig, ClusterWorker

            check_cluster(cluster, "--cluster")
            check_ray("--cluster")
            running: Worker = ClusterWorker(data, config, ClusterConfig(cluster, cluster_jobs or MOST_JOBS))
        else:
            running = Worker(data, config)
    if nice:
        if not hasattr(os, "nice"):
            raise UserError("This system has no priorities of that kind. Leave --nice out.")
        os.nice(nice)
    if with_parent:

        def end() -> None:
            running.end()
            time.sleep(_END_SECONDS)
            end_at_once()

        when_parent_ends(end)
    running.run()


def submit(
    images: Annotated[Path, typer.Argument(help=DATA_HELP)],
    data: DataOption,
    queue: QueueOption = None,
    owner: Annotated[str, typer.Option(help="The owner's token.")] = "local",
    name: Annotated[str | None, typer.Option(help="What to call the job; default: the data set's name.")] = None,
    preset: Annotated[str, typer.Option(help="fast, paper (as printed) or reference (as the authors' code).")] = "fast",
    method: Annotated[str, typer.Option(help="coop or cocoop.")] = "coop",
    shots: Annotated[int | None, typer.Option(help="Most images per class; default: the preset's.")] = None,
    ablation: Annotated[str, typer.Option(help="A row of the paper's Tables 4 and 5.")] = "full",
    seed: Annotated[int, typer.Option(help="Seed of every random choice.")] = 0,
    ood: Annotated[
        Path | None,
        typer.Option(
            help="Photos of none of the classes, to measure with: a folder, zip or Parquet file; labels are not needed."
        ),
    ] = None,
    split: SplitOption = None,
    image_column: ImageColumnOption = None,
    label_column: LabelColumnOption = None,
    backbone: Annotated[str, typer.Option(envvar="LSN_BACKBONE", help="As for `train`.")] = "embedded",
    as_json: JsonOption = False,
) -> None:
    """Put a training job into the queue; a worker, or the running app, does it."""
    from lsn_core.data.layout import Wanted
    from lsn_core.data.splits import TRAIN
    from lsn_core.training.presets import ablate, get_preset

    changes: dict[str, Any] = {"seed": seed} | ({"shots": shots} if shots is not None else {})
    config = ablate(get_preset(preset, method, **changes), ablation)
    jobs = _open(data, queue)
    wanted = Wanted(split, (TRAIN,), image_column, label_column)
    job = jobs.submit(images, owner, config, backbone=backbone, name=name, ood=ood, wanted=wanted)
    _show(jobs, job, as_json)
    if job.error:
        raise typer.Exit(1)
    if not jobs.working():
        typer.echo("No worker is running: start one with `python -m lsn_core worker`, or start the app.", err=True)
    elif hindrance := jobs.hindrance():
        typer.echo(hindrance, err=True)


def list_jobs(data: DataOption, owner: OwnerOption = None, as_json: JsonOption = False) -> None:
    """List the jobs, newest first."""
    jobs = _open(data)
    for job in jobs.list(owner):
        _show(jobs, job, as_json)


def show(job: JobArgument, data: DataOption, owner: OwnerOption = None, as_json: JsonOption = False) -> None:
    """Show one job, with its states and its loss and accuracy over time."""
    from lsn_core.jobs.job import QUEUED

    jobs = _open(data)
    record = jobs.get(job, owner)
    points, history = jobs.progress(job), [(at, state) for _, at, state in jobs.registry.history(job)]
    if as_json:
        line = _line(jobs, record) | {"history": history, "progress": [vars(point) for point in points]}
        typer.echo(json.dumps(line, ensure_ascii=False))
        return
    if record.state == QUEUED and (hindrance := jobs.hindrance()):
        typer.echo(hindrance, err=True)
    for key, value in _line(jobs, record).items():
        typer.echo(f"{key.replace('_', ' '):>14}  {json.dumps(value) if isinstance(value, dict) else value}")
    for at, state in history:
        typer.echo(f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(at)):>28}  {state}")


def stop(job: JobArgument, data: DataOption, owner: OwnerOption = None, as_json: JsonOption = False) -> None:
    """Stop a job, keeping its last checkpoint."""
    jobs = _open(data)
    _show(jobs, jobs.stop(job, owner), as_json)


def resume(
    job: JobArgument,
    data: DataOption,
    queue: QueueOption = None,
    owner: OwnerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Queue a stopped, failed or interrupted job again; it goes on from its last checkpoint."""
    jobs = _open(data, queue)
    _show(jobs, jobs.resume(job, owner), as_json)


def delete(job: JobArgument, data: DataOption, owner: OwnerOption = None, as_json: JsonOption = False) -> None:
    """Delete a job with its files, stopping it first."""
    jobs = _open(data)
    jobs.delete(job, owner)
    typer.echo(json.dumps({"id": job, "deleted": True}) if as_json else f"{job} is deleted.")


def _default_folder() -> Path:
    from lsn_core.jobs import DEFAULT_FOLDER

    return DEFAULT_FOLDER


def _open(data: Path, queue: str | None = None) -> Jobs:
    from lsn_core.jobs import Jobs

    with _plainly(data):
        return Jobs(data, queue_url=queue)


@contextmanager
def _plainly(data: Path) -> Iterator[None]:
    """What is wrong with a data directory, as one sentence."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise UserError(
            f"The jobs in {data} cannot be opened ({error}). Check its permissions and the disk."
        ) from error
    except sqlite3.DatabaseError as error:
        raise UserError(
            f"The list of jobs in {data} is damaged ({error}). Starting the app keeps it aside, with all that belongs "
            "to it, and begins a new one."
        ) from error
    except OSError as error:
        raise UserError(
            f"The folder {data} cannot hold jobs ({error.strerror or error}). Name another by --data or LSN_DATA."
        ) from error


def _line(jobs: Jobs, job: Job) -> dict[str, Any]:
    detector = None if job.result is None else str(jobs.result(job.id))
    return {
        **job.as_dict(),
        "detector": detector,
        "position": jobs.position(job.id),
        "seconds_left": jobs.seconds_left(job),
    }


def _show(jobs: Jobs, job: Job, as_json: bool) -> None:
    line = _line(jobs, job)
    if as_json:
        typer.echo(json.dumps(line, ensure_ascii=False))
        return
    progress = f"step {job.step} of {job.total}" if job.total else f"{job.prepared} of {job.images} images"
    position = f", position {line['position']} in the queue" if line["position"] else ""
    typer.echo(f"{job.id}  {job.state:<11}  {job.name}  ({progress}{position}){'  ' + job.error if job.error else ''}")
