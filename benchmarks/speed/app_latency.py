"""How long a person waits in the Detect tab: a first verdict, an answer to changed classes, a hundred photos at once.

    python -m benchmarks.speed.app_latency [--rounds 20] [--photos 100]

The app runs as its users run it (`python app.py`, the embedded backbone), on the machine that also runs the browser.
The browser's own clock counts from the visitor's act (a file given, Enter pressed) until the answer stands on the page;
the public endpoint is asked the same through gradio_client. Photos are crops of the examples that were never seen
before, and every class list has 20 names that were never asked about.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gradio_client import Client, handle_file
from playwright.sync_api import Page, sync_playwright

from benchmarks.harness.report import PAGE, environment, markdown_table, replace_section, write_results
from benchmarks.speed.job_load import new_photos, serving

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
BARS = {"first verdict on a new photo": 1.0, "answer to 20 other classes": 0.3}
_COLOURS = ("red", "blue", "green", "black", "white", "yellow")
_KINDS = ("old", "small", "wooden", "broken", "folding")
_NOUNS = (
    "chair",
    "table",
    "lamp",
    "bicycle",
    "bridge",
    "tower",
    "bottle",
    "basket",
    "ladder",
    "hammer",
    "teapot",
    "violin",
    "trumpet",
    "drum",
    "boat",
    "kayak",
    "tent",
    "wagon",
    "tractor",
    "bench",
    "fence",
    "gate",
    "barrel",
    "bucket",
    "broom",
    "candle",
    "clock",
    "mirror",
    "pillow",
    "carpet",
    "curtain",
    "kettle",
)
# From the first such event until the condition holds: what the visitor sees, without the time of this program.
_WATCH = """([event, condition]) => {
    const holds = new Function(`return ${condition}`);
    window.lsnTook = new Promise((done) => {
        let begun;
        const observer = new MutationObserver(() => {
            if (begun === undefined || !holds()) return;
            observer.disconnect();
            requestAnimationFrame(() => done((performance.now() - begun) / 1000));
        });
        const begin = () => { begun = performance.now(); };
        document.addEventListener(event, begin, {capture: true, once: true});
        observer.observe(document.body, {subtree: true, childList: true, characterData: true});
    });
}"""
_CLOSEST = "document.querySelector('#lsn-batch tbody td:nth-child(3)')?.textContent"


def class_lists() -> Iterator[list[str]]:
    """Lists of 20 class names, none of which comes twice."""
    names = (" ".join(words) for words in itertools.product(_COLOURS, _KINDS, _NOUNS))
    while len(found := list(itertools.islice(names, 20))) == 20:
        yield found


def main() -> None:
    """Measures, writes benchmarks/results/app_latency.json and the table of the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="of each question, at most 21")
    parser.add_argument("--photos", type=int, default=100, help="in a batch")
    parser.add_argument("--browser", default=shutil.which("chromium"), help="default: Playwright's own Chromium")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "data").mkdir()
        with serving(folder / "data") as address:
            rows = measure(address, folder, options)
    results = {"rounds": options.rounds, "photos": options.photos, "rows": rows}
    print(write_results("app_latency", results | environment() | {"load_average": os.getloadavg()}))
    table = markdown_table(
        ("what", "how", "n", "median s", "p90 s", "bar s"),
        [
            (
                row["what"],
                row["how"],
                str(row["n"]),
                f"{row['median_s']:.2f}",
                f"{row['p90_s']:.2f}",
                "-" if row["bar_s"] is None else f"{row['bar_s']:g}",
            )
            for row in rows
        ],
    )
    print(table)
    replace_section(PAGE, "app-latency", table)


def measure(address: str, folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """One row for each thing that was timed."""
    take, lists = new_photos(folder / "photos"), class_lists()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=options.browser, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(300_000)
        page.goto(address)
        page.wait_for_selector("#lsn-verdict h2")
        rows = one_photo(page, take, lists, options.rounds)
        rows += many_photos(page, [take() for _ in range(options.photos)], lists, 3)
        browser.close()
    return rows + endpoint(Client(address, verbose=False), take, lists, options.rounds)


def one_photo(page: Page, take: Callable[[], Path], lists: Iterator[list[str]], rounds: int) -> list[dict[str, Any]]:
    """A first verdict, and an answer to other classes, as seen in the browser."""
    verdict = "document.querySelector('#lsn-verdict h2').textContent"
    card = "document.querySelector('#lsn-verdict').textContent"  # names the closest class, whatever the verdict

    def first() -> float:
        if page.locator("#lsn-photo img").count():
            page.get_by_role("button", name="Remove Image").click()
            page.wait_for_function(f"{verdict}.includes('No photo yet')")
        photo = take()
        return watched(
            page,
            "change",
            f"!{verdict}.includes('No photo yet')",
            lambda: page.locator("#lsn-photo input[type=file]").set_input_files(photo),
        )

    def other_classes() -> float:
        names = next(lists)
        page.locator("#lsn-classes textarea").fill(", ".join(names))
        return watched(
            page,
            "keydown",
            f"{json.dumps(names)}.some((name) => {card}.includes(name))",
            lambda: page.locator("#lsn-classes textarea").press("Enter"),
        )

    found = [row("first verdict on a new photo", "browser", [first() for _ in range(rounds + 2)][2:])]
    return [*found, row("answer to 20 other classes", "browser", [other_classes() for _ in range(rounds)])]


def many_photos(page: Page, photos: list[Path], lists: Iterator[list[str]], rounds: int) -> list[dict[str, Any]]:
    """A batch from the upload to the table, and the table's answer to other classes."""
    count = len(photos)
    batch = watched(
        page,
        "change",
        f"document.querySelectorAll('#lsn-batch tbody tr').length === {count}",
        lambda: page.locator("#lsn-batch-files input[type=file]").set_input_files(photos),
    )
    warm = []
    for _ in range(rounds):
        names = next(lists)
        page.locator("#lsn-classes textarea").fill(", ".join(names))
        warm.append(
            watched(
                page,
                "keydown",
                f"{json.dumps(names)}.includes({_CLOSEST})",
                lambda: page.locator("#lsn-classes textarea").press("Enter"),
            )
        )
    return [
        row(f"{count} new photos at once", "browser", [batch]),
        row(f"answer about {count} photos to 20 other classes", "browser", warm),
    ]


def endpoint(client: Client, take: Callable[[], Path], lists: Iterator[list[str]], rounds: int) -> list[dict[str, Any]]:
    """The same questions to /score, upload included."""

    def ask(photo: Path, names: list[str]) -> float:
        begun = time.perf_counter()
        line = client.predict(handle_file(photo), ", ".join(names), 0.95, api_name="/score")
        assert line["error"] is None and line["predicted_class"] in names
        return time.perf_counter() - begun

    names = next(lists)
    photo = take()
    ask(photo, names)
    return [
        row("first verdict on a new photo", "/score", [ask(take(), names) for _ in range(rounds)]),
        row("answer to 20 other classes", "/score", [ask(photo, other) for other in itertools.islice(lists, rounds)]),
    ]


def watched(page: Page, event: str, condition: str, act: Callable[[], object]) -> float:
    """Seconds from the event that `act` causes until the condition holds in the page."""
    # As a person reads the last answer before going on: what follows it, such as heat maps, is done by then.
    page.wait_for_timeout(1500)
    page.evaluate(_WATCH, [event, condition])
    act()
    return float(page.evaluate("window.lsnTook"))


def row(what: str, how: str, seconds: list[float]) -> dict[str, Any]:
    """Median and 90th percentile beside the bar that is to be held."""
    p90 = statistics.quantiles(seconds, n=10)[-1] if len(seconds) > 1 else seconds[0]
    return {
        "what": what,
        "how": how,
        "n": len(seconds),
        "median_s": round(statistics.median(seconds), 3),
        "p90_s": round(p90, 3),
        "bar_s": BARS.get(what),
        "seconds": [round(value, 4) for value in seconds],
    }


if __name__ == "__main__":
    main()
