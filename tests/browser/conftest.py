"""A running app with the embedded backbone, and a headless Chromium to use it with."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from playwright.sync_api import Error as PlaywrightError

expect.set_options(timeout=30_000)  # the machine may be busy

REPO = Path(__file__).resolve().parent.parent.parent
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
START_SECONDS = 120  # far more than it takes: the machine may be busy


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tries a failed test twice more, and says so: where both cores are busy, a click can come too late."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.flaky(reruns=2))


@pytest.fixture(scope="session")
def app_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The app's data directory."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def app_url(tmp_path_factory: pytest.TempPathFactory, app_data: Path) -> Iterator[str]:
    """The address of `python app.py`, started on a free port and stopped afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address, log = f"http://127.0.0.1:{port}", tmp_path_factory.mktemp("app") / "log.txt"
    environment = os.environ | {
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "GRADIO_SERVER_PORT": str(port),
        "LSN_DATA": str(app_data),
        "LSN_BACKBONE": os.environ.get("LSN_TEST_BACKBONE", "embedded"),
    }
    with log.open("w") as output:
        server = subprocess.Popen(
            [sys.executable, "app.py"], cwd=REPO, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            _wait(address, server, log)
            yield address
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()


def _wait(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            pytest.fail(f"app.py stopped before it answered:\n{log.read_text()[-3000:]}")
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            time.sleep(0.3)
    pytest.fail(f"app.py did not answer within {START_SECONDS} s:\n{log.read_text()[-3000:]}")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium from the system, or else Playwright's own. Without one: a skip, and in CI a failure."""
    with sync_playwright() as playwright:
        path = os.environ.get("LSN_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
        try:
            running = playwright.chromium.launch(executable_path=path, args=FLAGS)
        except PlaywrightError as error:
            reason = (
                "no Chromium: `apt-get install chromium` or `playwright install chromium`, or set LSN_CHROMIUM to one "
                f"({str(error).splitlines()[0]})"
            )
            if os.environ.get("CI", "").lower() == "true":
                pytest.fail(reason)
            pytest.skip(reason)
        yield running
        running.close()


@pytest.fixture
def page(browser: Browser, app_url: str) -> Iterator[Page]:
    """The opened app in a fresh browser session."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(30_000)
    page = context.new_page()
    page.goto(app_url)
    page.wait_for_selector("#lsn-verdict h2")
    page.wait_for_function("window.lsnLinkIsRead")  # the page has been opened to its end
    yield page
    context.close()
