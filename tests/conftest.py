"""Fixtures that several test files share."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

# torch and open_clip are imported where they are used: the process that hands out tests to others needs neither.
if TYPE_CHECKING:
    from xdist.scheduler import LoadFileScheduling

    from lsn_core.backbones.backbone import Backbone

REPO = Path(__file__).resolve().parent.parent
LONGEST_FIRST = (
    "tests/browser/",
    "tests/lsn_core/jobs/worker/test_worker.py",
    "tests/test_outages.py",
    "tests/lsn_core/cluster/test_two",
    "tests/lsn_core/cluster/test_ray_client.py",
    "tests/lsn_core/jobs/cluster/test_workers.py",
    "tests/lsn_core/cli/",
    "tests/lsn_core/test_faults.py",
    "tests/lsn_core/backbones/test_compiled.py",
    "tests/lsn_app/serving/test_acc",
    "tests/test_app.py",
    "tests/lsn_core/jobs/",
    "",
)

# With several processes of tests, and processes that they start, more threads would be in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Text features of nouns are kept there, so that a backbone of the tests encodes them once and not in each process.
os.environ.setdefault("TORCH_HOME", str(REPO / ".pytest_cache" / "torch"))


SESSION = "LSN_TEST_SESSION"
PORTABLE = "LSN_TEST_PORTABLE"
NEEDS_POSIX = re.compile(
    r"import (resource|fcntl)\b|os\.(fork|mkfifo|waitpid)|SIG(KILL|HUP)|/proc/|/dev/|\.chmod\(|symlink_to"
    r"|kill\(os\.getpid|support_ray"
)
_ENDING_SECONDS = 20.0


def pytest_addoption(parser: pytest.Parser) -> None:
    """The device of the backbones that tests share: with "cuda" they are on a GPU."""
    parser.addoption("--device", default="cpu", help="cpu or cuda: where the tests' backbones are")


def pytest_configure(config: pytest.Config) -> None:
    """Marks this run's environment, which all processes that it starts inherit; PyTorch runs, as the reference."""
    os.environ.setdefault("LSN_RUNTIME", "eager")
    # A shell has what it puts into the background ignore the first, nohup the second; so would the processes of tests.
    for name, usual in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)
    if not hasattr(config, "workerinput"):
        os.environ[SESSION] = f"{os.getpid()}-{time.time_ns()}"


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """With LSN_TEST_PORTABLE=1, files of tests that need POSIX are left out, and `pytest_report_header` names them."""
    return True if collection_path in _left_out() else None


def pytest_report_header() -> list[str]:
    """Which files are left out, if any are."""
    names = [path.relative_to(REPO).as_posix() for path in _left_out()]
    return [f"left out, as they need POSIX: {', '.join(names)}"] if names else []


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Shows what was seen of tests that failed and then passed: they are to be mended, not to be forgotten."""
    for report in terminalreporter.stats.get("rerun", ()):
        terminalreporter.section(f"failed at first: {report.nodeid}")
        terminalreporter.write_line(str(report.longrepr))


@cache
def _left_out() -> tuple[Path, ...]:
    if os.environ.get(PORTABLE) != "1":
        return ()
    files = sorted((REPO / "tests").rglob("test_*.py"))
    return tuple(path for path in files if NEEDS_POSIX.search(path.read_text(encoding="utf-8")))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process that outlives the run fails it: an app that is left behind takes a gigabyte from whoever comes next."""
    if hasattr(session.config, "workerinput") or not Path("/proc/self/environ").exists():
        return
    deadline = time.monotonic() + _ENDING_SECONDS
    while (left := _left_behind()) and time.monotonic() < deadline:
        time.sleep(0.2)
    if left:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        print("\nProcesses that the tests left behind:", *left, sep="\n  ")


def _left_behind() -> list[str]:
    mark, found = f"{SESSION}={os.environ[SESSION]}".encode(), []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            # Not this process itself, and not what multiprocessing keeps for it until it ends.
            own = int(process.name) == os.getpid() or "from multiprocessing" in command
            if command and not own and mark in (process / "environ").read_bytes().split(b"\0"):
                found.append(f"{process.name} {command[:150]}")
        except OSError:  # it has ended meanwhile
            continue
    return found


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest goes first, so that the processes of tests end at about the same time."""
    items.sort(key=lambda item: next(i for i, start in enumerate(LONGEST_FIRST) if item.nodeid.startswith(start)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling:
    """Each process of tests gets whole files, as fixtures are costly; one of them all that need the app's server."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "browser" if nodeid.startswith("tests/browser/") else str(super()._split_scope(nodeid))

    config.option.loadscopereorder = False
    return Scheduling(config, log)


@pytest.fixture(scope="session")
def examples() -> Path:
    """The 16 example photos that ship with the project."""
    return REPO / "assets" / "examples"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real image sets for tests, not part of the project: LSN_TEST_DATA, or ../shared/data beside the checkout."""
    path = Path(os.environ.get("LSN_TEST_DATA", REPO.parent / "shared" / "data"))
    if not (path / "class_names.json").is_file():
        pytest.skip(f"real image sets not found at {path}: set LSN_TEST_DATA to the folder that holds them")
    return path


@pytest.fixture(scope="session")
def embedded(request: pytest.FixtureRequest) -> Backbone:
    """The embedded checkpoint."""
    from lsn_core.backbones.loading import load_backbone

    return load_backbone("embedded", device=request.config.getoption("--device"))


@pytest.fixture(scope="session")
def tiny_backbone(request: pytest.FixtureRequest) -> Backbone:
    """A small ViT CLIP with random weights: 32-pixel images, 64 dimensions, two layers."""
    import open_clip
    import torch

    from lsn_core.backbones.backbone import Backbone

    torch.manual_seed(0)
    model = open_clip.CLIP(
        embed_dim=64,
        vision_cfg={"image_size": 32, "layers": 2, "width": 64, "head_width": 16, "patch_size": 8},
        text_cfg={"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 2},
    )
    model.visual.preprocess_cfg = {"size": 32, "mode": "RGB", "interpolation": "bicubic", "resize_mode": "shortest"}
    device = request.config.getoption("--device")
    return Backbone(model, "tiny (random weights)", open_clip.get_tokenizer("ViT-B-32"), device)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch on one thread: small tensors make threads wait for each other, and sums depend on how many share them."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Redis server, started for the tests. Without the program: a skip, and in CI a failure."""
    from support import redis_program

    program = redis_program()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("redis")
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with (folder / "log.txt").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if server.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"redis-server did not start:\n{(folder / 'log.txt').read_text()[-2000:]}")
                time.sleep(0.05)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture(scope="session", params=["sqlite", "redis"])
def queue_url(request: pytest.FixtureRequest) -> str | None:
    """Each storage of the job queue: None for SQLite, or the address of a Redis server."""
    return request.getfixturevalue("redis_url") if request.param == "redis" else None
