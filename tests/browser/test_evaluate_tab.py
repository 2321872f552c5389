"""What a person does on the Evaluate tab: the examples, own files with a stop, mistakes, and the benchmark results."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

PATIENCE = 90_000  # it takes seconds, but the machine may be busy
MANY = 160  # enough for a stop to come in time, and few enough to be opened all before the start


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory, examples: Path) -> dict[str, Path]:
    """Many known photos in class folders, and photos of other things."""
    folder = tmp_path_factory.mktemp("evaluate")
    with zipfile.ZipFile(folder / "animals.zip", "w") as archive:
        for name in ("cat", "zebra"):
            photo = Image.open(examples / f"{name}.jpg")
            for i in range(MANY // 2):
                crop = io.BytesIO()
                photo.crop((i, i // 2, photo.width - i // 3, photo.height)).resize((96, 96)).save(crop, "PNG")
                archive.writestr(f"{name}/{i}.png", crop.getvalue())
        archive.writestr("cat/broken.jpg", "no picture")
    with zipfile.ZipFile(folder / "things.zip", "w") as archive:
        for name in ("church", "guitar", "school_bus"):
            archive.write(examples / f"{name}.jpg", f"{name}.jpg")
    (folder / "bad.zip").write_bytes(b"PK\x03\x04 and then nothing of use")
    return {path.stem: path for path in folder.glob("*.zip")}


def open_evaluate(page: Page, url: str, more: str = "") -> None:
    page.goto(f"{url}/?tab=evaluate{more}")
    page.wait_for_selector("#eval-start")


def give(page: Page, where: str, *paths: Path) -> None:
    page.locator(f"#eval-{where} input[type=file]").set_input_files(paths)


def download(page: Page, label: str) -> list[dict[str, str]]:
    with page.expect_download() as found:
        page.get_by_role("link", name=label).click()
    return list(csv.DictReader(found.value.path().read_text(encoding="utf-8-sig").splitlines()))


def test_the_examples_are_measured_in_one_click(browser: Browser, app_url: str) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    open_evaluate(page, app_url)
    expect(page.locator("#eval-card")).to_contain_text("Nothing measured yet")
    expect(page.locator("#eval-start")).to_be_disabled()
    page.locator("#eval-example").click()
    expect(page.locator("#eval-card h2")).to_contain_text("hand-written MCM", timeout=PATIENCE)
    expect(page.locator("#eval-card")).to_contain_text("8 photos are too few for firm numbers")
    expect(page.locator("#eval-found")).to_contain_text("Other: the other example photos8 photos")
    expect(page.locator("#eval-results tbody tr")).to_have_count(2)
    page.wait_for_selector("#eval-histograms .js-plotly-plot .bars path", state="attached")
    expect(page.locator("#eval-roc .js-plotly-plot .scatterlayer path.js-line")).to_have_count(3)

    table = download(page, "Download the table as CSV")
    shown = page.locator("#eval-results tbody tr").first.inner_text()
    assert f"{100 * float(table[0]['auroc']):.3g} %" in shown and (table[0]["n_id"], table[0]["n_ood"]) == ("8", "8")
    scores = download(page, "Download all scores as CSV")
    assert (
        len(scores) == 16
        and {"image": "cat.jpg", "side": "ID"}.items() <= next(row for row in scores if row["class"] == "cat").items()
    )

    page.locator("#eval-classes textarea").fill("guitar, school bus, church")
    page.locator("#eval-classes textarea").press("Enter")
    expect(page.locator("#eval-found")).to_contain_text("13 photos", timeout=PATIENCE)
    page.locator("#eval-start").click()
    expect(page.locator("#eval-card")).to_contain_text("3 photos are", timeout=PATIENCE)
    page.close()


def test_own_files_are_looked_into_stopped_and_measured(
    browser: Browser, app_url: str, archives: dict[str, Path]
) -> None:
    page = browser.new_page(viewport={"width": 375, "height": 800})
    open_evaluate(page, app_url)
    give(page, "known", archives["bad"])
    expect(page.locator("#eval-message-known")).to_contain_text("bad.zip: the zip archive is damaged", timeout=PATIENCE)
    page.locator("#eval-known").get_by_role("button", name=re.compile("Remove|Clear")).first.click()
    give(page, "known", archives["animals"])
    expect(page.locator("#eval-found")).to_contain_text(f"{MANY + 1} photos", timeout=PATIENCE)
    expect(page.locator("#eval-found")).to_contain_text("cat/broken.jpg")
    expect(page.locator("#eval-message-known")).to_be_hidden()
    expect(page.locator("#eval-classes textarea")).to_have_value("cat, zebra")
    expect(page.locator("#eval-start")).to_be_disabled()
    give(page, "others", archives["things"])
    expect(page.locator("#eval-found")).to_contain_text("Other: things", timeout=PATIENCE)
    page.locator("#eval-start").click()
    page.locator("#eval-stop").click()
    expect(page.locator("#eval-card")).to_contain_text("Stopped")
    expect(page.locator("#eval-results")).to_be_hidden()
    page.locator("#eval-start").click()
    expect(page.locator("#eval-results tbody tr").first).to_contain_text(f"{MANY} / 3", timeout=PATIENCE)
    expect(page.locator("#eval-results")).to_contain_text("1 photo could not be read")
    expect(page.locator("#eval-stop")).to_be_hidden()
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    page.close()


def test_a_link_opens_with_a_detector_which_refuses_photos_of_strange_classes(
    browser: Browser, app_url: str, archives: dict[str, Path]
) -> None:
    page = browser.new_page()
    open_evaluate(page, app_url, "&detector=imagenette")
    expect(page.locator("#eval-own-classes")).to_contain_text("gas pump")
    expect(page.locator("#eval-classes")).to_be_hidden()
    give(page, "known", archives["animals"])
    give(page, "others", archives["things"])
    expect(page.locator("#eval-message-known")).to_contain_text("does not know (cat, zebra)", timeout=PATIENCE)
    expect(page.locator("#eval-start")).to_be_disabled()
    page.close()


def test_the_benchmark_results_are_there_to_browse_and_sort(browser: Browser, app_url: str) -> None:
    page = browser.new_page()
    open_evaluate(page, app_url)
    page.get_by_role("button", name=re.compile("benchmarks")).click()
    expect(page.locator("#eval-benchmark input")).to_have_value(re.compile("^Table 3"))  # the headline comes first
    page.wait_for_function("document.querySelector('#eval-benchmark-picture img')?.naturalWidth > 0")
    page.locator("#eval-benchmark input").click()
    expect(page.get_by_role("option", name=re.compile("[Jj]ob|latency"))).to_have_count(0)
    page.get_by_role("option", name=re.compile("^Table 4")).click()
    table = page.locator("#eval-benchmark-table")
    expect(page.locator("#eval-benchmark-facts")).to_contain_text("table4")  # the table is the one that was asked for
    header = table.locator("th", has_text="auroc").first
    header.hover()
    header.get_by_role("button", name="Open cell menu").click()
    page.get_by_role("menuitem", name="Sort ascending").click()
    page.wait_for_timeout(500)
    values = [float(text) for text in table.locator(".virtual-row > :nth-child(4)").all_inner_texts()]
    assert values == sorted(values) and len(values) >= 5
    page.close()
