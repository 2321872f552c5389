"""Takes the screenshots of the app's tabs, wide and narrow, light and dark: `python -m scripts.screenshots [TAB ...]`.

With those of Detect comes the picture that previews of a link to the page show. Each file has at most 200 KB.
`--clip` records the README's clip instead: a photo, its verdict, why, and what "not" means to CLIP.
Starts `app.py` on a free port (or uses a running one, --url) and drives Chromium through Playwright.
"""

from __future__ import annotations

import argparse
import io
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

from PIL import Image
from playwright.sync_api import BrowserContext, Page, sync_playwright

from benchmarks.speed.job_kills import crops

REPO = Path(__file__).resolve().parent.parent
SIZES = {"wide": (1280, 900), "narrow": (375, 800)}
PREVIEW, PREVIEW_SIZE = REPO / "assets" / "preview.png", (1200, 630)
MAX_BYTES = 200_000
CLIP_WIDTH, MAX_CLIP_BYTES = 960, 3_000_000
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
    parser.add_argument("--clip", action="store_true", help="record the clip, and nothing else")
    options = parser.parse_args()
    if unknown := set(options.tabs) - set(TABS):
        parser.error(f"no tab is called {', '.join(sorted(unknown))}; there are {', '.join(TABS)}")
    options.out.mkdir(parents=True, exist_ok=True)
    with running_app(options.url) as url, sync_playwright() as playwright:
        # One context: a job that was done for one picture is there for the next.
        context = playwright.chromium.launch(executable_path=options.browser, args=FLAGS).new_context()
        if options.clip:
            record(context, url, options.out / "clip.gif")
            return
        for name in options.tabs or TABS:
            for size, viewport in SIZES.items():
                for theme in ("light", "dark"):
                    path = options.out / f"{name}-{size}-{theme}.png"
                    take(context, f"{url}/?__theme={theme}&tab={name}", viewport, TABS[name], path, name != "detect")
            if name == "detect":
                take(context, f"{url}/?__theme=light", PREVIEW_SIZE, detect, PREVIEW, whole=False)


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


def take(
    context: BrowserContext,
    url: str,
    viewport: tuple[int, int],
    prepare: Callable[[Page], None],
    path: Path,
    whole: bool,
) -> None:
    """One picture of a tab, after something was done there.

    Args:
        viewport: width and height in pixels.
        whole: whether the picture goes on below the first screen.
    """
    page = context.new_page()
    page.set_viewport_size({"width": viewport[0], "height": viewport[1]})
    page.set_default_timeout(300_000)
    page.goto(url)
    prepare(page)
    page.locator("#lsn-title").scroll_into_view_if_needed()
    page.wait_for_timeout(1500)  # animations
    shrink(page.screenshot(full_page=whole), path)
    page.close()
    print(path)


def shrink(png: bytes, path: Path) -> None:
    """Writes a picture with as many colours as there is room for."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    for colours in (256, 128, 64, 32):
        picture.quantize(colours, dither=Image.Dither.NONE).save(path, optimize=True)
        if path.stat().st_size <= MAX_BYTES:
            return
    raise SystemExit(f"{path.name} is larger than {MAX_BYTES:,} bytes even with few colours.")


def record(context: BrowserContext, url: str, path: Path) -> None:
    """A clip of a photo's way to its verdict, the reasons and the negations, as a GIF of some seconds."""
    page = context.new_page()
    page.set_viewport_size(dict(zip(("width", "height"), SIZES["wide"], strict=True)))
    page.set_default_timeout(300_000)
    page.goto(f"{url}/?__theme=light")
    detect(page)
    frames: list[tuple[bytes, int]] = []

    def show(milliseconds: int) -> None:
        page.wait_for_timeout(600)  # animations
        frames.append((page.screenshot(), milliseconds))

    def pick(name: str) -> None:
        button = page.locator("#lsn-examples button").filter(has_text=name)
        button.focus()
        show(700)
        button.click()
        page.wait_for_function("name => document.querySelector('#lsn-credit')?.textContent.includes(name)", arg=name)
        page.wait_for_timeout(1500)
        page.evaluate("window.scrollTo(0, 0)")

    def to(selector: str) -> None:
        page.locator(selector).evaluate("part => part.scrollIntoView({block: 'center'})")

    show(2000)
    for name in ("elephant", "zebra"):
        pick(name)
        show(2200)
    to("#lsn-heat-maps")
    page.wait_for_function("document.querySelector('#lsn-heat-maps img')?.naturalWidth > 0")
    show(2200)
    page.evaluate("window.scrollTo(0, 0)")
    page.get_by_role("tab", name="CLIP and").click()
    show(1000)
    for button, answer in (("#not-learning", "#not-choice .not-contrast"), ("#not-figure-2", "#not-choice figure img")):
        page.locator(button).click()
        page.wait_for_selector(answer)
        to("#not-choice")
        show(2800)
        page.evaluate("window.scrollTo(0, 0)")
    page.close()
    write_clip(frames, path)
    print(path)


def write_clip(frames: list[tuple[bytes, int]], path: Path) -> None:
    """Writes frames and how long each is shown, in milliseconds, as a GIF that begins anew at its end."""
    pictures = [Image.open(io.BytesIO(png)).convert("RGB") for png, _ in frames]
    size = (CLIP_WIDTH, round(CLIP_WIDTH * pictures[0].height / pictures[0].width))
    pictures = [picture.resize(size).quantize(128, dither=Image.Dither.NONE) for picture in pictures]
    durations = [milliseconds for _, milliseconds in frames]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=durations, loop=0, optimize=True)
    if path.stat().st_size > MAX_CLIP_BYTES:
        raise SystemExit(f"{path.name} is larger than {MAX_CLIP_BYTES:,} bytes.")


def detect(page: Page) -> None:
    """The first screen, as it opens."""
    page.wait_for_selector("#lsn-verdict:not([data-verdict=none])")
    page.wait_for_function("document.querySelector('#lsn-photo img')?.naturalWidth > 0")


def ask_about_not(page: Page) -> None:
    """What learning changes, and all examples as many photos."""
    page.locator("#not-learning").click()
    page.wait_for_selector("#not-learned table")
    page.locator("#not-files input[type=file]").set_input_files(sorted((REPO / "assets" / "examples").glob("*.jpg")))
    page.wait_for_selector("#not-learned-bars .js-plotly-plot .bars path")


def train(page: Page) -> None:
    """A job on crops of three example photos, from the zip to its result."""
    page.wait_for_selector("#lsn-job h2")
    page.wait_for_timeout(2500)  # the jobs of this browser are on their way
    if page.locator("#lsn-job h2", has_text="Done").count():
        return
    with tempfile.TemporaryDirectory() as folder:
        archive = shutil.make_archive(f"{folder}/my animals", "zip", crops(Path(folder, "photos"), count=12))
        page.wait_for_selector("#lsn-train-start")
        page.locator("#lsn-train-data input[type=file]").set_input_files(archive)
        page.wait_for_selector("#lsn-train-found table")
    page.locator("#lsn-train-start").click()
    page.wait_for_selector("#lsn-job h2 >> text=: Done")


def evaluate(page: Page) -> None:
    """The example photos measured."""
    page.locator("#eval-example").click()
    page.wait_for_selector("#eval-results table")
    page.wait_for_selector("#eval-histograms .js-plotly-plot .bars path", state="attached")
    page.wait_for_selector("#eval-roc .js-plotly-plot .scatterlayer path.js-line")


TABS = {"detect": detect, "not": ask_about_not, "train": train, "evaluate": evaluate}

if __name__ == "__main__":
    main()
