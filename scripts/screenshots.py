"""Takes the screenshots of the app's tabs, wide and narrow, light and dark: `python -m scripts.screenshots [TAB ...]`.

Starts `app.py` on a free port (or uses a running one, --url) and drives Chromium through Playwright.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.speed.job_kills import crops

REPO = Path(__file__).resolve().parent.parent
SIZES = {"wide": (1280, 900), "narrow": (375, 800)}
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def main() -> None:
    """Reads the arguments and takes all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tabs", nargs="*", metavar="TAB", help=f"default: all ({', '.join(TABS)})")
    parser.add_argument("--out", type=Path, default=REPO / "assets" / "screenshots", help="folder for the pictures")
    parser.add_argument("--url", help="a running app; by default one is started")
    parser.add_argument(
        "--browser", default=shutil.which("chromium"), help="path of Chromium; default: Playwright's own"
    )
    options = parser.parse_args()
    if unknown := set(options.tabs) - set(TABS):
        parser.error(f"no tab is called {', '.join(sorted(unknown))}; there are {', '.join(TABS)}")
    options.out.mkdir(parents=True, exist_ok=True)
    with running_app(options.url) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=options.browser, args=FLAGS)
        for name in options.tabs or TABS:
            for size, (width, height) in SIZES.items():
                for theme in ("light", "dark"):
                    path = options.out / f"{name}-{size}-{theme}.png"
                    take(browser, f"{url}/?__theme={theme}&tab={name}", width, height, TABS[name], path)
                    print(path)
        browser.close()


@contextmanager
def running_app(url: str | None) -> Iterator[str]:
    """The address of the app: the one given, or one started for the time being."""
    if url:
        yield url.rstrip("/")
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data = tempfile.TemporaryDirectory()  # of the training jobs
    environment = os.environ | {
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "GRADIO_SERVER_PORT": str(port),
        "LSN_DATA": data.name,
    }
    server = subprocess.Popen([sys.executable, str(REPO / "app.py")], cwd=REPO, env=environment)
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(240):
            if server.poll() is not None:
                raise SystemExit("app.py stopped before it answered; see its messages above.")
            try:
                urllib.request.urlopen(address, timeout=5).close()
                break
            except OSError:
                time.sleep(0.5)
        yield address
    finally:
        server.terminate()
        server.wait(30)
        data.cleanup()


def take(browser: Browser, url: str, width: int, height: int, prepare: Callable[[Page], None], path: Path) -> None:
    """One picture of a tab, after something was done there."""
    page = browser.new_page(viewport={"width": width, "height": height})
    page.set_default_timeout(120_000)
    page.goto(url)
    prepare(page)
    page.locator("#lsn-title").scroll_into_view_if_needed()
    page.wait_for_timeout(1500)  # animations
    page.screenshot(path=path, full_page=True)
    page.close()


def detect(page: Page) -> None:
    """The example church, with the verdict of a trained detector, with the heat maps of its prompts."""
    page.locator("#lsn-detector input").click()
    page.get_by_role("option", name="imagenette").click()
    page.locator("#lsn-examples button", has_text="church").first.click()
    page.wait_for_selector("#lsn-negative .js-plotly-plot .bars path", state="attached")
    page.wait_for_selector("#lsn-scale .js-plotly-plot .bars path")
    page.locator("#lsn-heat-maps").scroll_into_view_if_needed()  # the browser loads no picture before
    page.wait_for_function(
        "[...document.querySelectorAll('#lsn-heat-maps img')].filter(image => image.naturalWidth).length == 4"
    )


def ask_about_not(page: Page) -> None:
    """A church denied, beside a detector's prompts, and all examples as many photos."""
    page.locator("#not-text-1 textarea").fill("not a photo of a church")
    page.locator("#not-text-2 textarea").fill("not a photo of a golf ball")
    page.locator("#not-examples button", has_text="church").first.click()
    page.wait_for_selector("#not-written table")
    page.locator("#not-detector input").click()
    page.get_by_role("option", name="imagenette").click()
    page.wait_for_selector("#not-learned table")
    page.locator("#not-files input[type=file]").set_input_files(sorted((REPO / "assets" / "examples").glob("*.jpg")))
    page.wait_for_selector("#not-learned-bars .js-plotly-plot .bars path")


def train(page: Page) -> None:
    """A job on crops of three example photos, from the zip to its result."""
    with tempfile.TemporaryDirectory() as folder:
        archive = shutil.make_archive(f"{folder}/my animals", "zip", crops(Path(folder, "photos"), count=12))
        page.wait_for_selector("#lsn-train-start")
        page.locator("#lsn-train-data input[type=file]").set_input_files(archive)
        page.wait_for_selector("#lsn-train-found table")
    page.locator("#lsn-train-start").click()
    page.wait_for_selector("#lsn-job h2 >> text=: Done")


def evaluate(page: Page) -> None:
    """The example photos measured, and a benchmark result below."""
    page.locator("#eval-example").click()
    page.wait_for_selector("#eval-results table")
    page.wait_for_selector("#eval-histograms .js-plotly-plot .bars path", state="attached")
    page.wait_for_selector("#eval-roc .js-plotly-plot .scatterlayer path.js-line")
    page.locator("#eval-benchmarks > button").click()
    page.wait_for_selector("#eval-benchmark-table .virtual-row")


TABS = {"detect": detect, "not": ask_about_not, "train": train, "evaluate": evaluate}

if __name__ == "__main__":
    main()
