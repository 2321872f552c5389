"""What a person does on the Train tab: a job from a zip to a detector in use, found again after a reload."""

from __future__ import annotations

import re
import shutil
import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from support import choose_option

from benchmarks.speed.job_kills import crops
from lsn_core.detector.file import read_detector_file

PATIENCE = 90_000  # a job takes seconds, but the machine may be busy


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("train")
    crops(folder / "animals", ("cat", "elephant", "zebra"), 8)
    (folder / "animals" / "cat" / "broken.jpg").write_text("no picture")
    with zipfile.ZipFile(folder / "my animals.zip", "w") as zipped:
        for path in sorted((folder / "animals").rglob("*.*")):
            zipped.write(path, path.relative_to(folder / "animals"))
    return folder / "my animals.zip"


def open_train(page: Page, url: str) -> None:
    page.goto(f"{url}/?tab=train")  # on a phone the tab itself is in a menu
    page.wait_for_selector("#lsn-train-start")


def upload(page: Page, path: Path) -> None:
    page.locator("#lsn-train-data input[type=file]").set_input_files(path)


def test_from_a_zip_to_a_detector_in_use(browser: Browser, app_url: str, archive: Path, tmp_path: Path) -> None:
    mine, other = browser.new_context(), browser.new_context()
    page = mine.new_page()
    open_train(page, app_url)
    expect(page.locator("#lsn-job")).to_contain_text("No job yet")
    expect(page.locator("#lsn-train-start")).to_be_disabled()
    upload(page, archive)
    expect(page.locator("#lsn-train-found")).to_contain_text("25 photos of 3 classes", timeout=PATIENCE)
    expect(page.locator("#lsn-train-found")).to_contain_text("cat/broken.jpg")
    expect(page.locator("#lsn-train-found td", has_text="zebra")).to_be_visible()
    page.locator("#lsn-train-start").dblclick()
    expect(page.locator("#lsn-train-message")).to_contain_text("in the queue")
    expect(page.locator("#lsn-jobs label")).to_have_count(1)  # a double click is one click

    page.close()  # the job goes on without it
    page = mine.new_page()
    open_train(page, app_url)
    expect(page.locator("#lsn-job h2")).to_contain_text(": Done", timeout=PATIENCE)
    expect(page.locator("#lsn-job")).to_contain_text("1 photo could not be read")
    expect(page.locator("#lsn-job")).to_contain_text("hand-written MCM")
    expect(page.locator("#lsn-train-message")).to_be_hidden()
    expect(page.locator("#lsn-job tr", has_text="AUROC").first).to_contain_text("%")
    expect(page.locator("#lsn-job")).to_contain_text("against 13 photos that show none of them (the example photos)")
    page.wait_for_selector("#lsn-curves .js-plotly-plot .scatterlayer path.js-line", state="attached")
    expect(page.locator("#lsn-job-stop")).to_be_hidden()
    with page.expect_download() as download:
        page.locator("#lsn-job-download").click()
    download.value.save_as(tmp_path / "mine.safetensors")
    assert read_detector_file(tmp_path / "mine.safetensors")[0]["class_names"] == ["cat", "elephant", "zebra"]

    stranger = other.new_page()
    open_train(stranger, app_url)
    expect(stranger.locator("#lsn-job")).to_contain_text("No job yet")
    stranger.wait_for_timeout(1500)  # more than one tick of the clock
    expect(stranger.locator("#lsn-job")).to_contain_text("No job yet")

    page.locator("#lsn-job-use").click()
    expect(page.locator("#lsn-classes textarea")).to_have_value("cat, elephant, zebra")
    expect(page.locator("#lsn-verdict")).to_have_attribute("data-verdict", re.compile("ID|OOD"))
    page.locator("#lsn-examples button").filter(has_text=re.compile(r"^\s*zebra\s*$")).click()
    expect(page.locator("#lsn-verdict h2")).to_contain_text("zebra", timeout=PATIENCE)

    page.get_by_role("tab", name="Evaluate").click()
    choose_option(page, "#eval-detector", "my animals.zip (my job)")
    expect(page.locator("#eval-own-classes")).to_contain_text("cat, elephant, zebra")

    page.get_by_role("tab", name="Train").click()
    page.locator("#lsn-job-delete").click()
    expect(page.locator("#lsn-job h2")).to_contain_text(": Done")  # it asks first
    page.locator("#lsn-job-delete-now").click()
    expect(page.locator("#lsn-job")).to_contain_text("No job yet")
    mine.close()
    other.close()


def test_a_job_is_stopped_and_resumed_and_mistakes_are_sentences(
    browser: Browser, app_url: str, archive: Path, tmp_path: Path
) -> None:
    page = browser.new_page(viewport={"width": 375, "height": 800})
    open_train(page, app_url)
    (tmp_path / "bad.zip").write_bytes(b"PK\x03\x04 and then nothing of use")
    upload(page, tmp_path / "bad.zip")
    expect(page.locator("#lsn-train-data-message")).to_contain_text("bad.zip: the zip archive is damaged")
    expect(page.locator("#lsn-train-start")).to_be_disabled()
    page.locator("#lsn-train-data").get_by_role("button", name=re.compile("Remove|Clear")).first.click()
    upload(page, archive)
    expect(page.locator("#lsn-train-found")).to_contain_text("3 classes", timeout=PATIENCE)
    page.locator("#lsn-train-preset label", has_text="paper").click()
    page.locator("#lsn-train-start").click()
    expect(page.locator("#lsn-job")).to_contain_text(re.compile(r"Step \d+ of"), timeout=PATIENCE)
    expect(page.locator("#lsn-job progress")).to_be_visible()
    page.locator("#lsn-job-stop").click()
    expect(page.locator("#lsn-job h2")).to_contain_text(": Stopped")
    page.locator("#lsn-job-resume").click()
    expect(page.locator("#lsn-job h2")).to_contain_text(re.compile(": (Waiting|Reading|Training)"))
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    page.locator("#lsn-job-delete").click()
    page.locator("#lsn-job-delete-now").click()
    expect(page.locator("#lsn-job")).to_contain_text("No job yet")
    page.close()


def test_a_sample_set_that_is_kept_is_taken_by_a_click(
    browser: Browser, app_url: str, app_data: Path, archive: Path
) -> None:
    (app_data / "samples").mkdir()
    shutil.copy(archive, app_data / "samples" / "Imagenette.zip")  # as if somebody had fetched it
    page = browser.new_page(viewport={"width": 375, "height": 800})
    open_train(page, app_url)
    page.get_by_role("button", name="No photos at hand?").click()
    expect(page.locator("#lsn-train-sample")).to_contain_text("94 MiB from fast.ai (Apache-2.0")
    page.locator("#lsn-train-take").click()
    expect(page.locator("#lsn-train-found")).to_contain_text("25 photos of 3 classes", timeout=PATIENCE)
    expect(page.locator("#lsn-train-data")).to_contain_text("Imagenette")
    expect(page.locator("#lsn-train-start")).to_be_enabled()
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    page.close()
