"""What a person does with many photos, and with a detector file of their own, on the Detect tab."""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from lsn_core import Backbone, Detector

expect.set_options(timeout=30_000)  # the machine may be busy
ANIMALS = ["dog", "cat", "elephant", "flamingo"]
NAMES = ("dog", "cat", "church", "zebra", "elephant")
ROWS = "#lsn-batch tbody tr:not([hidden])"


def give(page: Page, *files: Path) -> None:
    page.locator("#lsn-batch-files input[type=file]").set_input_files(files)


def table(page: Page) -> list[list[str]]:
    """The text of every row that is seen."""
    return page.evaluate(
        "rows => [...document.querySelectorAll(rows)].map(row => [...row.cells].filter(cell => !cell.hidden)"
        ".map(cell => cell.innerText.trim()))",
        ROWS,
    )


def sort(page: Page, column: str) -> None:
    page.locator("#lsn-batch thead button", has_text=column).click()


def show(page: Page, kind: str) -> None:
    page.locator("#lsn-batch .lsn-filters label", has_text=kind).click()


def test_several_photos_give_a_table_to_sort_filter_pick_from_and_save(
    page: Page, examples: Path, embedded: Backbone, tmp_path: Path
) -> None:
    files = [examples / f"{name}.jpg" for name in NAMES]
    note = tmp_path / "note.jpg"
    note.write_text("this is no picture")
    page.locator("#lsn-classes textarea").fill(", ".join(ANIMALS))
    page.locator("#lsn-classes textarea").press("Enter")
    expect(page.locator("#lsn-verdict")).to_have_attribute("data-calibrated", "false")
    give(page, *files, note)
    expect(page.locator(ROWS)).to_have_count(6)
    expected = Detector.zero_shot(embedded, ANIMALS).predict(files)
    words = {"ID": "known", "OOD": "unknown"}
    for row, path, one in zip(table(page), files, expected, strict=False):
        assert row[0] == path.name and words[str(one.verdict)] == row[1].split()[-1]
        assert row[2:] == [one.predicted_class, f"{one.score:.4f}", "–"]
    assert table(page)[5][1].endswith("not readable") and table(page)[5][2].startswith("note.jpg: this is not an image")
    known = sum(one.verdict == "ID" for one in expected)
    expect(page.locator("#lsn-batch-summary")).to_contain_text(f"{known} of 6 photos judged as known")
    pictures = page.locator("#lsn-batch tbody img")
    assert [picture.evaluate("image => image.naturalWidth") for picture in pictures.all()] == [160] * 5 + [0]

    sort(page, "Score")
    scores = sorted(float(one.score or 0) for one in expected)
    assert [row[3] for row in table(page)[:5]] == [f"{score:.4f}" for score in scores]
    sort(page, "Score")
    assert [row[3] for row in table(page)[:5]] == [f"{score:.4f}" for score in scores[::-1]]
    assert table(page)[5][0] == "note.jpg"  # what has no score stays last
    expect(page.locator("#lsn-batch th[aria-sort=descending]")).to_contain_text("Score")
    show(page, "Unknown")
    assert {row[0] for row in table(page)} == {
        p.name for p, one in zip(files, expected, strict=True) if one.verdict == "OOD"
    }
    show(page, "Not readable")
    assert [row[0] for row in table(page)] == ["note.jpg"]
    show(page, "All")

    church = examples / "church.jpg"
    page.locator(ROWS, has_text=church.name).click()
    headline = {"ID": "Known", "OOD": "None of these 4 classes"}[str(expected[files.index(church)].verdict)]
    expect(page.locator("#lsn-verdict h2")).to_contain_text(headline)
    expect(page.locator("#lsn-credit")).to_contain_text("church.jpg, 3 of 6")
    expect(page.locator("#lsn-heat-maps .caption-label")).to_have_count(2)
    page.wait_for_function("document.querySelector('#lsn-photo img')?.naturalWidth > 0")
    page.wait_for_function("location.search.includes('tab=detect')")
    page.get_by_role("link", name="Back to the table").click()
    expect(page.locator("#lsn-batch-summary")).to_be_in_viewport()
    page.locator("#lsn-batch tr[aria-current] button").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    second = table(page)[1]
    page.keyboard.press("Enter")
    expect(page.locator("#lsn-credit")).to_contain_text(second[0])

    with page.expect_download() as download:
        page.locator("#lsn-batch-csv").click()
    lines = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8-sig"))))
    assert [line["file"] for line in lines] == [path.name for path in [*files, note]]
    for line, one in zip(lines, expected, strict=False):
        assert (line["verdict"], line["predicted_class"]) == (one.verdict, one.predicted_class)
        assert float(line["score"]) == pytest.approx(one.score, abs=1e-5)
        assert json.loads(line["positive"]) == pytest.approx(one.positive, abs=1e-4)
    assert lines[5]["verdict"] == "" and "not an image" in lines[5]["error"]

    uploads: list[str] = []
    page.on("request", lambda request: uploads.append(request.url) if "/upload" in request.url else None)
    page.locator("#lsn-classes textarea").fill("church, guitar")
    page.locator("#lsn-classes textarea").press("Enter")
    expect(page.locator(ROWS, has_text="church.jpg")).to_contain_text("✓ known")
    assert not uploads
    page.locator("#lsn-classes textarea").fill("church, Church")
    page.locator("#lsn-classes textarea").press("Enter")
    expect(page.locator("#lsn-message-classes")).to_contain_text("is given twice")
    expect(page.locator("#lsn-batch")).to_be_hidden()


def test_a_zip_and_a_folder_are_taken_and_the_slider_moves_the_verdicts(
    browser: Browser, app_url: str, examples: Path, tmp_path: Path
) -> None:
    page = browser.new_page()
    page.goto(f"{app_url}/?detector=imagenette&tpr=0.8")
    expect(page.locator("#lsn-classes textarea")).to_have_value(re.compile("golf ball"))
    folder = tmp_path / "photos" / "inside"
    folder.mkdir(parents=True)
    (folder / "labels.csv").write_text("no picture")
    church = Image.open(examples / "church.jpg")
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for i, size in enumerate((299, 96, 64, 48, 32, 24)):  # harder and harder to know
            church.crop((20, 20, 20 + size, 20 + size)).save(folder / f"{i}.png")
            archive.write(folder / f"{i}.png", f"church/{i}.png")
    give(page, tmp_path / "set.zip")
    expect(page.locator(ROWS)).to_have_count(6)
    strict = [row[1].split()[-1] for row in table(page)]
    assert {row[0] for row in table(page)} == {f"church/{i}.png" for i in range(6)} and "unknown" in strict
    assert all(float(row[4]) <= 1 for row in table(page))
    page.wait_for_selector("#lsn-batch-histogram .js-plotly-plot .bars path", state="attached")
    page.locator("#lsn-settings > button").click()
    slider = page.locator("#lsn-batch-tpr input[type=range]")
    slider.focus()
    slider.press("End")
    expect(page.locator("#lsn-batch-summary")).to_contain_text("keeps at least 99 % of known photos")
    expect(page.locator("#lsn-tpr input[type=number]")).to_have_value("0.99")
    loose = [row[1].split()[-1] for row in table(page)]
    assert loose.count("known") > strict.count("known")
    page.wait_for_function("new URL(location).searchParams.get('tpr') === '0.99'")

    with page.expect_file_chooser() as chooser:
        page.locator("#lsn-batch-folder").click()
    chooser.value.set_files(tmp_path / "photos")
    expect(page.locator("#lsn-batch-summary")).to_contain_text("1 other file is no picture: photos/inside/labels.csv")
    assert {row[0] for row in table(page)} == {f"photos/inside/{i}.png" for i in range(6)}
    page.close()


def test_a_harmful_zip_is_refused_by_the_files(page: Page, examples: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.write(examples / "dog.jpg", "../dog.jpg")
    give(page, tmp_path / "evil.zip")
    message = page.locator("#lsn-message-batch")
    expect(message).to_contain_text("evil.zip: the entry '../dog.jpg' points outside the archive")
    assert "/tmp" not in message.inner_text()
    page.locator("#lsn-batch-examples").click()
    expect(page.locator(ROWS)).to_have_count(16)
    expect(message).to_be_hidden()


def test_a_detector_file_is_refused_with_the_reason_or_used_by_its_visitor_alone(
    browser: Browser, page: Page, app_url: str, embedded: Backbone, tmp_path: Path
) -> None:
    (tmp_path / "bad.safetensors").write_text("this is no detector")
    Detector.zero_shot(embedded, ["zebra", "turtle"]).save(tmp_path / "animals.safetensors")

    page.locator("#lsn-settings > button").click()

    def upload(name: str) -> None:
        with page.expect_file_chooser() as chooser:
            page.locator("#lsn-detector-file").click()
        chooser.value.set_files(tmp_path / name)

    upload("bad.safetensors")
    expect(page.locator("#lsn-message-model")).to_contain_text("bad.safetensors is not a safetensors file")
    upload("animals.safetensors")
    expect(page.locator("#lsn-detector input")).to_have_value("animals.safetensors (uploaded)")
    expect(page.locator("#lsn-classes textarea")).to_have_value("zebra, turtle")
    expect(page.locator("#lsn-message-model")).to_be_hidden()
    page.locator("#lsn-examples button", has_text="zebra").click()
    expect(page.locator("#lsn-verdict h2")).to_contain_text("Known: zebra")
    page.wait_for_function("new URL(location).searchParams.get('example') === 'zebra.jpg'")
    assert "private-" not in page.url
    other = browser.new_page()
    other.goto(page.url)
    expect(other.locator("#lsn-message-model")).to_contain_text("it may be somebody's own")
    other.locator("#lsn-settings > button").click()
    other.locator("#lsn-detector input").click()
    expect(other.get_by_role("option", name="imagenette")).to_be_visible()
    expect(other.get_by_role("option", name=re.compile("animals"))).to_have_count(0)
    other.close()


def test_a_copied_address_opens_the_same(browser: Browser, page: Page) -> None:
    page.locator("#lsn-examples button", has_text="church").click()
    expect(page.locator("#lsn-verdict h2")).not_to_contain_text("No photo yet")
    page.locator("#lsn-classes textarea").fill("church, castle & tower")
    page.locator("#lsn-classes textarea").press("Enter")
    expect(page.locator("#lsn-verdict h2")).to_contain_text("church")
    page.wait_for_function("new URL(location).searchParams.get('classes') === 'church, castle & tower'")
    copy = browser.new_page()
    copy.goto(page.url)
    expect(copy.locator("#lsn-verdict h2")).to_have_text(page.locator("#lsn-verdict h2").inner_text())
    expect(copy.locator("#lsn-classes textarea")).to_have_value("church, castle & tower")
    expect(copy.locator("#lsn-credit")).to_contain_text("church")
    copy.close()


def test_the_table_fits_a_phone(browser: Browser, app_url: str) -> None:
    page = browser.new_page(viewport={"width": 375, "height": 800})
    page.goto(app_url)
    page.wait_for_selector("#lsn-verdict h2")
    page.locator("#lsn-batch-examples").click()
    expect(page.locator(ROWS)).to_have_count(16)
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    wide, seen = page.locator(".lsn-batch-scroll").evaluate("box => [box.scrollWidth, box.clientWidth]")
    assert wide <= seen
    page.close()


def test_a_running_batch_is_stopped_and_what_was_answered_stays(page: Page, tmp_path: Path) -> None:
    stop = page.locator("#lsn-batch-stop")
    expect(stop).to_be_disabled()
    files = []
    for i in range(400):  # all of them new to the server
        files.append(tmp_path / f"{i}.png")
        Image.new("RGB", (96, 96), (i % 256, i // 256, 7)).save(files[-1])
    give(page, *files)
    expect(stop).to_be_enabled()
    page.wait_for_timeout(1000)
    stop.click()
    expect(page.locator("#lsn-batch-summary")).to_contain_text(re.compile(r"Stopped: \d+ of the 400 photos"))
    expect(stop).to_be_disabled()
    answered = int(re.findall(r"of ([\d,]+) photos judged", page.locator("#lsn-batch-summary").inner_text())[0])
    expect(page.locator(ROWS)).to_have_count(answered)


def test_the_table_can_be_seen_as_large_pictures(page: Page) -> None:
    page.locator("#lsn-batch-examples").click()
    expect(page.locator(ROWS)).to_have_count(16)
    small = page.locator("#lsn-batch .lsn-thumb").first.bounding_box()
    page.locator("#lsn-batch .lsn-as-pictures").click()
    large = page.locator("#lsn-batch .lsn-thumb").first.bounding_box()
    assert small and large and large["width"] > 1.3 * small["width"] >= 96
    page.locator("#lsn-batch tbody button", has_text="cat.jpg").click()
    expect(page.locator("#lsn-credit")).to_contain_text("cat.jpg")
