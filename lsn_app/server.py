"""Serves the app, for `lsn app` and `python app.py`: http://127.0.0.1:7860.

Environment: LSN_BACKBONE (default 'embedded'), LSN_PUBLIC (1: strangers use it, so backbones come from a fixed list;
default: whenever the server listens on more than this machine), LSN_DATA (the one folder that is written to: training
jobs, uploads, downloaded models; default ~/.local/share/lsn), LSN_QUEUE (redis://HOST:PORT/DB; default: SQLite),
LSN_JOB_THREADS (CPU threads of a job; default: all cores but one), LSN_JOB_MEMORY_GIB (a job that takes more fails),
LSN_RESUME (0: interrupted jobs wait to be resumed), LSN_SLICE_SECONDS (on ZeroGPU, how long a job has the GPU at a
time; default 40), LSN_MCP (1: the public endpoints are MCP tools, too), GRADIO_SERVER_NAME, GRADIO_SERVER_PORT;
SPACE_HOST and SPACE_ID, which a Hugging Face Space has.
"""

import logging
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

from lsn_core.cache_folders import keep_within
from lsn_core.jobs import DEFAULT_FOLDER, SlicedWorker, Supervisor, WorkerConfig
from lsn_core.jobs.worker.time_sliced import SLICE_SECONDS

DATA = Path(os.environ.get("LSN_DATA") or DEFAULT_FOLDER).absolute()
keep_within(DATA, os.environ)  # first: Gradio and the Hub's client look at the environment when they are imported

from lsn_app.page import build_app, launch_options  # noqa: E402
from lsn_app.serving import accelerator  # noqa: E402
from lsn_app.settings import Settings  # noqa: E402
from lsn_core import UserError  # noqa: E402


def main() -> None:
    """Builds the page, starts a worker for training jobs beside it, and serves until stopped."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    host = os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1"
    port = int(os.environ.get("GRADIO_SERVER_PORT") or 7860)
    local = host in ("127.0.0.1", "localhost", "::1")
    settings = Settings(
        backbone=os.environ.get("LSN_BACKBONE") or "embedded",
        public=flag("LSN_PUBLIC", not local),
        data_dir=DATA,
        queue_url=os.environ.get("LSN_QUEUE") or None,
        address=f"https://{os.environ['SPACE_HOST']}" if os.environ.get("SPACE_HOST") else "",
        source=f"https://huggingface.co/spaces/{os.environ['SPACE_ID']}" if os.environ.get("SPACE_ID") else "",
    )
    try:
        launching = launch_options(mcp=flag("LSN_MCP", False))
        page = build_app(settings)
    except UserError as error:
        raise SystemExit(str(error)) from error
    # As by Ctrl-C: what runs beside the page is ended, too, such as the process that has ZeroGPU's GPU.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    stop = start_worker(settings.queue_url)
    try:
        page.launch(server_name=host, server_port=port, **launching)
    finally:
        stop()


def start_worker(queue_url: str | None) -> Callable[[], None]:
    """Starts what does training jobs; what it returns ends it."""
    if accelerator.ZERO_GPU:  # in this process, as no other gets the GPU
        config = WorkerConfig(queue_url=queue_url, resume=flag("LSN_RESUME", True))
        seconds = float(os.environ.get("LSN_SLICE_SECONDS") or SLICE_SECONDS)
        worker = SlicedWorker(DATA, config, accelerator.run_slice, seconds)
        threading.Thread(target=worker.run, name="training", daemon=True).start()
        return worker.end
    options = ["--nice", "10", "--resume" if flag("LSN_RESUME", True) else "--no-resume"]
    for name, option in (
        ("LSN_QUEUE", "--queue"),
        ("LSN_JOB_THREADS", "--threads"),
        ("LSN_JOB_MEMORY_GIB", "--memory-gib"),
    ):
        if os.environ.get(name):
            options += [option, os.environ[name]]
    supervisor = Supervisor(DATA, options)
    supervisor.start()
    return supervisor.stop


def flag(name: str, default: bool) -> bool:
    """An environment variable that says yes or no."""
    value = os.environ.get(name)
    return default if not value else value.lower() in ("1", "true", "yes")
