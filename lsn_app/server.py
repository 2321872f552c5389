"""Serves the app, for `lsn app` and `python app.py`: http://127.0.0.1:7860.

Environment: LSN_BACKBONE (default 'embedded'), LSN_PUBLIC (1: strangers use it, so backbones come from a fixed list;
default: whenever the server listens on more than this machine), LSN_DATA (the one folder that is written to: training
jobs, uploads, downloaded models; default ~/.local/share/lsn), LSN_QUEUE (redis://HOST:PORT/DB; default: SQLite),
LSN_CLUSTER (auto, HOST:PORT or ray://HOST:PORT: jobs are done on this Ray cluster), LSN_CLUSTER_JOBS (most at once),
LSN_JOB_THREADS (CPU threads of a job; default: all cores but one), LSN_JOB_MEMORY_GIB (a job that takes more fails),
LSN_RESUME (0: interrupted jobs wait to be resumed), LSN_SLICE_SECONDS (on ZeroGPU, how long a job has the GPU at a
time; default 40), LSN_MCP (1: the public endpoints are MCP tools, too), LSN_HOSTS (names
under which the page is served), LSN_PROXIED (1: a proxy says by X-Forwarded-For whose request it is), LSN_METRICS (1:
numbers for Prometheus at /metrics), GRADIO_SERVER_NAME, GRADIO_SERVER_PORT;
SPACE_HOST and SPACE_ID, which a Hugging Face Space has.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from lsn_app.startup import LOCAL_HOSTS, Startup, check_startup, read_environment
from lsn_core.cache_folders import keep_within
from lsn_core.errors import UserError
from lsn_core.jobs import SlicedWorker, Supervisor, WorkerConfig
from lsn_core.jobs.worker.time_sliced import SLICE_SECONDS

# The page, Gradio and torch are imported where they are used: what is wrong with the environment is said before, and
# Gradio and the Hub's client look at it when they are imported.
if TYPE_CHECKING:
    from lsn_app.serving.blocks import GuardedBlocks
    from lsn_app.settings import Settings

log = logging.getLogger(__name__)

_LAST_WORDS_SECONDS = 0.2  # for an answer on its way out


def main() -> None:
    """Builds the page, starts a worker for training jobs beside it, and serves until stopped.

    What the environment has wrong ends it with one sentence and exit code 2, before anything is loaded.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        start = read_environment(os.environ)
        notices = check_startup(start)
        for notice in notices:
            log.warning("%s", notice)
        try:
            keep_within(start.data, os.environ)
        except OSError as error:
            raise UserError(
                f"{error.filename} cannot be made ({error.strerror}). Correct TMPDIR, HF_HOME, TORCH_HOME or "
                "MPLCONFIGDIR, or leave them out."
            ) from error
        from lsn_app.page import build_app, launch_options

        settings = settings_of(start, notices)
        launching = launch_options(settings, mcp=start.mcp)
        page = build_app(settings)
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    stop = start_worker(start)
    try:
        page.launch(server_name=start.host, server_port=start.port, prevent_thread_lock=True, **launching)
        wait_for_signal()
        drain(page)
        page.close()
    finally:
        stop()


def settings_of(start: Startup, notices: list[str]) -> Settings:
    """How the page is set up."""
    from lsn_app.settings import Settings

    local, space = start.host in LOCAL_HOSTS, start.space
    return Settings(
        backbone=start.backbone,
        public=start.public,
        data_dir=start.data,
        queue_url=start.queue,
        address=f"https://{space}" if space else "",
        source=f"https://huggingface.co/spaces/{start.space_id}" if start.space_id else "",
        hosts=(*LOCAL_HOSTS, *start.hosts) if local or start.hosts else None,
        frames=("https://huggingface.co",) if space else (),
        proxied=start.proxied,
        metrics=start.metrics,
        compiling=True,
        # security: paths of this machine are no stranger's business; the log has the whole sentences.
        notices=("Training jobs begin anew, as their list was damaged.",) * bool(notices)
        if start.public
        else tuple(notices),
    )


def wait_for_signal() -> None:
    """Returns at the first SIGTERM or Ctrl-C; a second one ends the process at once."""
    told = threading.Event()

    def tell(number: int, frame: object) -> None:
        if told.is_set():
            os._exit(128 + number)
        told.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, tell)
    told.wait()


def drain(page: GuardedBlocks, seconds: float | None = None) -> None:
    """Begins nothing new, and waits until what is at work has been answered, so many seconds at most."""
    from lsn_app.serving.front_door import DRAIN_SECONDS

    page.draining = True
    deadline = time.monotonic() + (DRAIN_SECONDS if seconds is None else seconds)
    while page.at_work() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(_LAST_WORDS_SECONDS)


def start_worker(start: Startup) -> Callable[[], None]:
    """Starts what does training jobs; what it returns ends it."""
    from lsn_app.serving import accelerator

    if accelerator.ZERO_GPU and start.cluster is None:  # in this process, as no other gets the GPU
        config = WorkerConfig(queue_url=start.queue, resume=start.resume)
        worker = SlicedWorker(start.data, config, accelerator.run_slice, start.slice_seconds or SLICE_SECONDS)
        threading.Thread(target=worker.run, name="training", daemon=True).start()
        return worker.end
    options = ["--nice", "10", "--resume" if start.resume else "--no-resume"]
    given = (
        (start.queue, "--queue"),
        (start.threads, "--threads"),
        (start.memory_gib, "--memory-gib"),
        (start.cluster, "--cluster"),
        (start.cluster_jobs, "--cluster-jobs"),
    )
    for value, option in given:
        if value is not None:
            options += [option, str(value)]
    supervisor = Supervisor(start.data, options)
    supervisor.start()
    return supervisor.stop
