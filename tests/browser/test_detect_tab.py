"""What a person does on the Detect tab, with real photos, and what the page then says."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from lsn_core import Backbone, Detector
from lsn_core.backbones.image_tower import view_image
from lsn_core.data.images import open_image
from lsn_core.heatmaps.maps import explain

ANIMALS = ("dog", "cat", "elephant", "flamingo")


def pick_example(page: Page, name: str) -> None:
    page.locator("#lsn-examples button").filter(has_text=re.compile(f"^\\s*{name}\\s*$")).click()


def upload(page: Page, path: Path) -> None:
    page.locator("#lsn-photo input[type=file]").set_input_files(path)


def ask(page: Page, classes: str) -> None:
    page.locator("#lsn-classes textarea").fill(classes)
    page.locator("#lsn-classes textarea").press("Enter")


def headline(page: Page) -> str:
    return page.locator("#lsn-verdict h2").inner_text()


def calibrate(page: Page, files: list[Path]) -> None:
    page.get_by_role("button", name="Calibrate with your own photos").click()
    page.locator("#lsn-files input[type=file]").set_input_files(files)


def bar_labels(page: Page, plot: str) -> list[str]:
    page.wait_for_selector(f"{plot} .js-plotly-plot .bars path")
    return page.locator(f"{plot} .ytick text").all_text_contents()


def test_an_example_dog_is_called_a_dog_with_reasons(page: Page) -> None:
    expect(page.locator("#lsn-verdict")).to_contain_text("No photo yet")
    pick_example(page, "dog")
    expect(page.locator("#lsn-verdict h2")).to_contain_text("Known: dog")
    expect(page.locator("#lsn-verdict")).to_contain_text(
        re.compile(r"Score 0\.\d+ is at or above the threshold 0\.\d+")
    )
    expect(page.locator("#lsn-verdict")).to_contain_text("The threshold is uncalibrated")
    assert bar_labels(page, "#lsn-positive")[0] == "dog"
    assert sorted(bar_labels(page, "#lsn-negative")) == sorted(ANIMALS)
    expect(page.locator("#lsn-scale .js-plotly-plot .points path")).to_have_count(1)
    credit = page.locator("#lsn-credit")
    expect(credit).to_contain_text("Megan Cole")
    expect(credit.get_by_role("link", name="CC BY 2.0")).to_have_attribute(
        "href", "https://creativecommons.org/licenses/by/2.0/"
    )


def test_an_uploaded_photo_answers_changed_classes_without_a_new_upload(page: Page, examples: Path) -> None:
    upload(page, examples / "flamingo.jpg")
    expect(page.locator("#lsn-verdict h2")).to_contain_text("Known: flamingo")
    uploads: list[str] = []
    page.on("request", lambda request: uploads.append(request.url) if "/upload" in request.url else None)
    ask(page, "church, guitar, strawberry")
    expect(page.locator("#lsn-verdict h2")).not_to_contain_text("flamingo")
    assert set(bar_labels(page, "#lsn-positive")) == {"church", "guitar", "strawberry"}
    assert not uploads


def test_a_removed_photo_takes_its_verdict_along(page: Page) -> None:
    pick_example(page, "cat")
    page.wait_for_selector("#lsn-positive .js-plotly-plot")
    page.get_by_role("button", name="Remove Image").click()
    expect(page.locator("#lsn-verdict")).to_contain_text("No photo yet")
    expect(page.locator("#lsn-positive")).to_be_hidden()
    expect(page.locator("#lsn-credit")).to_be_hidden()


def test_a_mistake_in_the_class_list_is_told_by_the_class_list(page: Page) -> None:
    pick_example(page, "cat")
    page.wait_for_selector("#lsn-positive .js-plotly-plot")
    ask(page, "dog, Dog")
    expect(page.locator("#lsn-message-classes")).to_contain_text("is given twice")
    ask(page, "dog, cat")
    expect(page.locator("#lsn-message-classes")).to_be_hidden()
    assert set(bar_labels(page, "#lsn-positive")) == {"dog", "cat"}


def test_a_text_file_called_jpg_gives_a_sentence_and_the_app_goes_on(page: Page, tmp_path: Path) -> None:
    (tmp_path / "note.jpg").write_text("this is no picture")
    upload(page, tmp_path / "note.jpg")
    expect(page.locator("#lsn-message-photo")).to_contain_text("note.jpg: this is not an image")
    expect(page.locator("#lsn-verdict")).to_contain_text("No verdict")
    pick_example(page, "flamingo")
    expect(page.locator("#lsn-verdict h2")).to_contain_text("flamingo")
    expect(page.locator("#lsn-message-photo")).to_be_hidden()


@pytest.mark.parametrize(("mode", "suffix"), [("CMYK", "tiff"), ("I;16", "png"), ("CMYK", "jpg"), ("LA", "webp")])
def test_unusual_pictures_are_taken_and_shown(page: Page, tmp_path: Path, mode: str, suffix: str) -> None:
    path = tmp_path / f"unusual.{suffix}"
    Image.new(mode, (300, 200)).save(path)
    upload(page, path)
    page.wait_for_selector("#lsn-positive .js-plotly-plot")
    page.wait_for_function("document.querySelector('#lsn-photo img')?.naturalWidth > 0")


def test_a_huge_picture_is_refused_by_its_size(page: Page, tmp_path: Path) -> None:
    Image.new("1", (20_000, 15_000)).save(tmp_path / "huge.png")
    upload(page, tmp_path / "huge.png")
    expect(page.locator("#lsn-message-photo")).to_contain_text("pixels")
    expect(page.locator("#lsn-verdict")).to_contain_text("No verdict")


def test_calibration_photos_turn_the_hint_into_a_p_value_and_the_slider_moves_the_threshold(
    page: Page, examples: Path, tmp_path: Path
) -> None:
    pick_example(page, "dog")
    expect(page.locator("#lsn-verdict")).to_contain_text("uncalibrated")
    files = [examples / f"{name}.jpg" for name in ANIMALS]
    for name in ANIMALS * 5:  # and cropped copies: 24 photos, enough for 95 %
        path = tmp_path / f"{name}{len(files)}.jpg"
        inset = len(files)
        Image.open(examples / f"{name}.jpg").crop((inset, inset, 299 - inset, 299 - inset)).save(path)
        files.append(path)
    calibrate(page, files)
    expect(page.locator("#lsn-calibration-note")).to_contain_text("24 of 24 photos are used")
    card = page.locator("#lsn-verdict")
    expect(card).to_contain_text("p = ")
    expect(card).to_contain_text("keeps at least 95 % of known photos")
    expect(card).not_to_contain_text("uncalibrated")
    page.wait_for_selector("#lsn-scale .bars path")
    before = card.inner_text()
    slider = page.locator("#lsn-tpr input[type=range]")
    slider.focus()
    for _ in range(10):
        slider.press("ArrowLeft")
    expect(card).to_contain_text("keeps at least 85 % of known photos")
    thresholds = [float(re.search(r"threshold (0\.\d+)", text)[1]) for text in (before, card.inner_text())]  # type: ignore[index]
    assert thresholds[1] > thresholds[0]


def heat_maps(page: Page) -> list[str]:
    page.wait_for_function("document.querySelector('#lsn-heat-maps img')?.naturalWidth > 0")
    return page.locator("#lsn-heat-maps .caption-label").all_inner_texts()


def test_a_trained_detector_shows_where_its_positive_and_negative_prompts_look(page: Page, tmp_path: Path) -> None:
    page.locator("#lsn-detector input").click()
    page.get_by_role("option", name="imagenette").click()
    pick_example(page, "church")
    captions = page.locator("#lsn-heat-maps .caption-label")
    expect(captions).to_have_count(4)
    assert [text.split(":")[0] for text in heat_maps(page)] == [
        "church",
        "not church (1)",
        "not church (2)",
        "not church (3)",
    ]
    before = page.locator("#lsn-heat-maps img").first.get_attribute("src")
    page.locator("#lsn-heat-class input").click()
    page.get_by_role("option", name="golf ball").click()
    expect(captions.first).to_contain_text("golf ball")
    assert page.locator("#lsn-heat-maps img").first.get_attribute("src") != before
    page.locator("#lsn-heat-kind input").click()
    page.get_by_role("option", name="Positive minus negative").click()
    expect(captions).to_have_count(3)
    with page.expect_download() as download:
        page.locator("#lsn-heat-download").click()
    download.value.save_as(tmp_path / "maps.png")
    with Image.open(tmp_path / "maps.png") as picture:
        assert picture.format == "PNG" and picture.width > 800


def test_a_method_that_does_not_fit_the_model_says_so_by_the_maps(page: Page) -> None:
    pick_example(page, "dog")
    assert len(heat_maps(page)) == 2
    page.locator("#lsn-heat-method input").click()
    page.get_by_role("option", name="legrad").click()
    expect(page.locator("#lsn-message-heat")).to_contain_text("this image tower has none")
    expect(page.locator("#lsn-verdict h2")).to_contain_text("Known: dog")
    page.locator("#lsn-heat-method input").click()
    page.get_by_role("option", name="grad-cam", exact=True).click()
    expect(page.locator("#lsn-message-heat")).to_be_hidden()
    expect(page.locator("#lsn-heat-maps .caption-label")).to_have_count(2)


def test_a_link_opens_with_its_example_and_classes(browser: Browser, app_url: str) -> None:
    page = browser.new_page()
    page.goto(f"{app_url}/?example=zebra.jpg&classes=zebra,church")
    expect(page.locator("#lsn-verdict h2")).to_contain_text("zebra", timeout=30_000)
    assert set(bar_labels(page, "#lsn-positive")) == {"zebra", "church"}
    page.close()


def test_a_link_opens_with_a_detector(browser: Browser, app_url: str) -> None:
    page = browser.new_page()
    page.goto(f"{app_url}/?tab=detect&detector=imagenette&example=church.jpg")
    expect(page.locator("#lsn-verdict h2")).to_contain_text("Known: church", timeout=30_000)
    expect(page.locator("#lsn-own-classes")).to_contain_text("golf ball")
    page.close()


def test_nothing_is_wider_than_a_phone(browser: Browser, app_url: str) -> None:
    page = browser.new_page(viewport={"width": 375, "height": 800})
    page.goto(app_url)
    pick_example(page, "dog")
    page.wait_for_selector("#lsn-negative .js-plotly-plot .bars path")
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    page.close()


def test_the_endpoint_gives_the_numbers_of_the_library(app_url: str, embedded: Backbone, examples: Path) -> None:
    client = Client(app_url, verbose=False)
    line = client.predict(handle_file(examples / "zebra.jpg"), ", ".join(ANIMALS), 0.95, api_name="/score")
    (expected,) = Detector.zero_shot(embedded, ANIMALS).predict([examples / "zebra.jpg"])
    assert line["file"] == "zebra.jpg" and line["error"] is None
    assert (line["verdict"], line["predicted_class"]) == (expected.verdict, expected.predicted_class)
    assert line["score"] == pytest.approx(expected.score, abs=1e-5)
    assert line["threshold"] == pytest.approx(expected.threshold, abs=1e-6)
    assert line["positive"] == pytest.approx(expected.positive, abs=1e-4)
    assert set(client.view_api(return_format="dict")["named_endpoints"]) == {"/score", "/heatmap", "/probe"}


def test_the_heat_map_endpoint_gives_the_numbers_of_the_library(
    app_url: str, embedded: Backbone, examples: Path
) -> None:
    client = Client(app_url, verbose=False)
    photo = handle_file(examples / "zebra.jpg")
    line = client.predict(photo, ", ".join(ANIMALS), "dog", "grad-cam", "prompts", api_name="/heatmap")
    detector = Detector.zero_shot(embedded, ANIMALS)
    maps = explain(detector, view_image(embedded, open_image(examples / "zebra.jpg")), "dog", "grad-cam")
    assert line["error"] is None and [one["label"] for one in line["maps"]] == ["dog", "not dog"]
    for one, target, values in zip(line["maps"], maps.targets, maps.values, strict=True):
        assert one["value"] == pytest.approx(target.value, abs=1e-5)
        np.testing.assert_allclose(one["grid"], values, atol=1e-4 * maps.limit)
    line = client.predict(photo, "dog, cat", "horse", "grad-cam", "prompts", api_name="/heatmap")
    assert line["maps"] == [] and "no class 'horse'" in line["error"]


def test_the_endpoint_tells_of_mistakes_and_fetches_no_address(app_url: str, examples: Path, tmp_path: Path) -> None:
    client = Client(app_url, verbose=False)
    (tmp_path / "note.jpg").write_text("this is no picture")
    line = client.predict(handle_file(tmp_path / "note.jpg"), "dog, cat", 0.95, api_name="/score")
    assert line["verdict"] is None and line["error"].startswith("note.jpg: this is not an image")
    address = {"path": "http://127.0.0.1:9/x.jpg", "meta": {"_type": "gradio.FileData"}}
    with pytest.raises(AppError, match="web addresses are not fetched"):
        client.predict(address, "dog, cat", 0.95, api_name="/score")


def test_the_endpoint_reads_no_file_of_the_server(app_url: str) -> None:
    outside = {"path": "/etc/hostname", "orig_name": "x.jpg", "meta": {"_type": "gradio.FileData"}}
    started = httpx.post(f"{app_url}/gradio_api/call/score", json={"data": [outside, "dog, cat", 0.95]}).json()
    answer = httpx.get(f"{app_url}/gradio_api/call/score/{started['event_id']}", timeout=30).text
    assert answer.startswith("event: error")
