"""Serves the app, for `lsn app` and `python app.py`: http://127.0.0.1:7860.

Environment: LSN_BACKBONE (default 'embedded'), LSN_PUBLIC (1: strangers use it, so backbones come from a fixed list;
default: whenever the server listens on more than this machine), LSN_DATA (the one folder that is written to: training
jobs, uploads, downloaded models; default ~/.local/share/lsn), LSN_QUEUE (redis://HOST:PORT/DB; default: SQLite),
LSN_JOB_THREADS (CPU threads of a job; default: all cores but one), LSN_JOB_MEMORY_GIB (a job that takes more fails),
LSN_RESUME (0: interrupted jobs wait to be resumed), LSN_SLICE_SECONDS (on ZeroGPU, how long a job has the GPU at a
time; default 40), LSN_MCP (1: the public endpoints are MCP tools, too), LSN_HOSTS (names
under which the page is served), LSN_PROXIED (1: a proxy says by X-Forwarded-For whose request it is), LSN_METRICS (1:
numbers for Prometheus at /metrics), GRADIO_SERVER_NAME, GRADIO_SERVER_PORT;
SPACE_HOST and SPACE_ID, which a Hugging Face Space has.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from lsn_core.cache_folders import keep_within
from lsn_core.jobs import DEFAULT_FOLDER, SlicedWorker, Supervisor, WorkerConfig
from lsn_core.jobs.worker.time_sliced import SLICE_SECONDS

DATA = Path(os.environ.get("LSN_DATA") or DEFAULT_FOLDER).absolute()
keep_within(DATA, os.environ)  # first: Gradio and the Hub's client look at the environment when they are imported

from lsn_app.page import build_app, launch_options  # noqa: E402
from lsn_app.serving import accelerator  # noqa: E402
from lsn_app.serving.blocks import GuardedBlocks  # noqa: E402
from lsn_app.serving.front_door import DRAIN_SECONDS  # noqa: E402
from lsn_app.settings import LOCAL_HOSTS, Settings  # noqa: E402
from lsn_core import UserError  # noqa: E402

_LAST_WORDS_SECONDS = 0.2  # for an answer on its way out


def main() -> None:
    """Builds the page, starts a worker for training jobs beside it, and serves until stopped."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    host = os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1"
    port = int(os.environ.get("GRADIO_SERVER_PORT") or 7860)
    local, space = host in LOCAL_HOSTS, os.environ.get("SPACE_HOST") or ""
    named = [name.strip() for name in (os.environ.get("LSN_HOSTS") or space).split(",") if name.strip()]
    settings = Settings(
        backbone=os.environ.get("LSN_BACKBONE") or "embedded",
        public=flag("LSN_PUBLIC", not local),
        data_dir=DATA,
        queue_url=os.environ.get("LSN_QUEUE") or None,
        address=f"https://{space}" if space else "",
        source=f"https://huggingface.co/spaces/{os.environ['SPACE_ID']}" if os.environ.get("SPACE_ID") else "",
        hosts=(*LOCAL_HOSTS, *named) if local or named else None,
        frames=("https://huggingface.co",) if space else (),
        proxied=flag("LSN_PROXIED", bool(space)),
        metrics=flag("LSN_METRICS", False),
    )
    try:
        launching = launch_options(settings, mcp=flag("LSN_MCP", False))
        page = build_app(settings)
    except UserError as error:
        raise SystemExit(str(error)) from error
    stop = start_worker(settings.queue_url)
    try:
        page.launch(server_name=host, server_port=port, prevent_thread_lock=True, **launching)
        wait_for_signal()
        drain(page)
        page.close()
    finally:
        stop()


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


def drain(page: GuardedBlocks, seconds: float = DRAIN_SECONDS) -> None:
    """Begins nothing new, and waits until what is at work has been answered, so many seconds at most."""
    page.draining = True
    deadline = time.monotonic() + seconds
    while page.at_work() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(_LAST_WORDS_SECONDS)


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
