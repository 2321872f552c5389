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
from support import choose_option

from lsn_core import Backbone, Detector
from lsn_core.backbones.image_tower import view_image
from lsn_core.data.images import open_image
from lsn_core.heatmaps.maps import explain

ANIMALS = ("dog", "cat", "elephant", "flamingo")


def pick_example(page: Page, name: str) -> None:
    page.locator("#lsn-examples button").filter(has_text=re.compile(f"^\\s*{name}\\s*$")).click()
    # Its answer is there before anything else is asked, which an answer on its way would take the place of.
    expect(page.locator("#lsn-credit")).to_contain_text(name)


def upload(page: Page, path: Path) -> None:
    # The answer that the page opens with is there first: it would take the place of a later one.
    expect(page.locator("#lsn-verdict")).to_have_attribute("data-verdict", re.compile("ID|OOD"))
    expect(page.locator("#lsn-photo img")).to_be_visible()
    with page.expect_file_chooser() as chooser:
        page.locator("#lsn-upload").click()
    chooser.value.set_files(path)


def ask(page: Page, classes: str) -> None:
    page.locator("#lsn-classes textarea").fill(classes)
    page.locator("#lsn-classes textarea").press("Enter")


def headline(page: Page) -> str:
    return page.locator("#lsn-verdict h2").inner_text()


def unfold(page: Page, panel: str) -> None:
    page.locator(f"{panel} > button").click()


def calibrate(page: Page, files: list[Path]) -> None:
    page.locator("#lsn-files input[type=file]").set_input_files(files)
    expect(page.locator("#lsn-calibration-note")).to_contain_text(f"{len(files)} of {len(files)} photos are used")


def bar_labels(page: Page, plot: str) -> list[str]:
    page.wait_for_selector(f"{plot} .js-plotly-plot .bars path")
    return page.locator(f"{plot} .ytick text").all_text_contents()


def crops(examples: Path, folder: Path, names: tuple[str, ...], count: int) -> list[Path]:
    """Photos of classes: cropped copies of examples."""
    files = []
    for index in range(count):
        name, inset = names[index % len(names)], index
        path = folder / f"{name}{index}.jpg"
        Image.open(examples / f"{name}.jpg").crop((inset, inset, 299 - inset, 299 - inset)).save(path)
        files.append(path)
    return files


def in_view(page: Page, selector: str) -> bool:
    box = page.locator(selector).bounding_box()
    size = page.viewport_size
    return bool(box and size and box["y"] >= 0 and box["y"] + box["height"] <= size["height"])


def test_a_photo_that_is_picked_while_the_page_opens_stays(browser: Browser, app_url: str) -> None:
    page = browser.new_page()
    page.goto(f"{app_url}/?example=zebra.jpg", wait_until="commit")
    page.locator("#lsn-examples button").filter(has_text=re.compile(r"^\s*dog\s*$")).click()
    page.wait_for_function("window.lsnLinkIsRead")
    expect(page.locator("#lsn-credit")).to_contain_text("dog")
    page.wait_for_timeout(1000)  # an answer that is still on its way
    expect(page.locator("#lsn-credit")).to_contain_text("dog")
    expect(page.locator("#lsn-verdict")).to_have_attribute("data-verdict", re.compile("ID|OOD"))
    page.close()


@pytest.mark.parametrize("size", [(1280, 900), (375, 740)])
def test_the_page_opens_with_a_verdict_in_view(browser: Browser, app_url: str, size: tuple[int, int]) -> None:
    page = browser.new_page(viewport={"width": size[0], "height": size[1]})
    page.goto(app_url)
    card = page.locator("#lsn-verdict")
    expect(card).to_have_attribute("data-verdict", re.compile("ID|OOD"))
    expect(card).to_have_attribute("data-calibrated", "true")
    page.wait_for_function("document.querySelector('#lsn-photo img')?.naturalWidth > 0")
    assert in_view(page, "#lsn-verdict")
    expect(page.locator("#lsn-baseline")).to_contain_text("Hand-written MCM")
    expect(page.locator("#lsn-why .lsn-total")).to_contain_text("the threshold")
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    page.close()


def test_on_a_phone_the_verdict_on_an_example_is_in_view(browser: Browser, app_url: str) -> None:
    page = browser.new_page(viewport={"width": 375, "height": 740})
    page.goto(app_url)
    before = page.locator("#lsn-why").inner_text()
    pick_example(page, "guitar")
    expect(page.locator("#lsn-credit")).to_contain_text("guitar")
    expect(page.locator("#lsn-why")).not_to_have_text(before)
    page.wait_for_timeout(700)  # a smooth scroll
    assert in_view(page, "#lsn-verdict")
    page.close()


def test_typed_classes_are_asked_by_their_names_alone_with_reasons(page: Page) -> None:
    pick_example(page, "dog")
    ask(page, ", ".join(ANIMALS))
    card = page.locator("#lsn-verdict")
    expect(card).to_contain_text("Known: dog")
    expect(card).to_contain_text("rule of thumb")
    expect(card).to_have_attribute("data-calibrated", "false")
    expect(page.locator("#lsn-why")).to_contain_text("It fits “dog” better than the other classes")
    expect(page.locator("#lsn-why .lsn-total")).to_contain_text("above the threshold")
    unfold(page, "#lsn-details")
    assert bar_labels(page, "#lsn-positive")[0] == "dog"
    expect(page.locator("#lsn-scale .js-plotly-plot .points path")).to_have_count(1)
    credit = page.locator("#lsn-credit")
    expect(credit).to_contain_text("Megan Cole")
    expect(credit.get_by_role("link", name="CC BY 2.0")).to_have_attribute(
        "href", "https://creativecommons.org/licenses/by/2.0/"
    )


def test_an_uploaded_photo_answers_changed_classes_without_a_new_upload(page: Page, examples: Path) -> None:
    upload(page, examples / "flamingo.jpg")
    ask(page, ", ".join(ANIMALS))
    expect(page.locator("#lsn-verdict h2")).to_contain_text("Known: flamingo")
    uploads: list[str] = []
    page.on("request", lambda request: uploads.append(request.url) if "/upload" in request.url else None)
    ask(page, "church, guitar, strawberry")
    expect(page.locator("#lsn-verdict h2")).not_to_contain_text("flamingo")
    unfold(page, "#lsn-details")
    assert set(bar_labels(page, "#lsn-positive")) == {"church", "guitar", "strawberry"}
    assert not uploads


def test_a_removed_photo_takes_its_verdict_along_and_another_can_be_dropped(page: Page, examples: Path) -> None:
    page.get_by_role("button", name="Remove Image").click()
    expect(page.locator("#lsn-verdict")).to_contain_text("No photo yet")
    expect(page.locator("#lsn-verdict")).to_have_attribute("data-verdict", "none")
    expect(page.locator("#lsn-details")).to_be_hidden()
    expect(page.locator("#lsn-credit")).to_be_hidden()
    page.locator("#lsn-photo input[type=file]").set_input_files(examples / "cat.jpg")
    expect(page.locator("#lsn-verdict")).to_have_attribute("data-verdict", re.compile("ID|OOD"))


def test_a_mistake_in_the_class_list_is_told_by_the_class_list(page: Page) -> None:
    ask(page, "dog, Dog")
    expect(page.locator("#lsn-message-classes")).to_contain_text("is given twice")
    expect(page.locator("#lsn-verdict")).to_have_attribute("data-verdict", "none")
    ask(page, "dog, cat")
    expect(page.locator("#lsn-message-classes")).to_be_hidden()
    expect(page.locator("#lsn-verdict")).to_have_attribute("data-verdict", re.compile("ID|OOD"))


def test_a_text_file_called_jpg_gives_a_sentence_and_the_app_goes_on(page: Page, tmp_path: Path) -> None:
    (tmp_path / "note.jpg").write_text("this is no picture")
    upload(page, tmp_path / "note.jpg")
    expect(page.locator("#lsn-message-photo")).to_contain_text("note.jpg: this is not an image")
    expect(page.locator("#lsn-verdict")).to_contain_text("No verdict")
    pick_example(page, "flamingo")
    expect(page.locator("#lsn-verdict")).to_have_attribute("data-verdict", re.compile("ID|OOD"))
    expect(page.locator("#lsn-message-photo")).to_be_hidden()


@pytest.mark.parametrize(("mode", "suffix"), [("CMYK", "tiff"), ("I;16", "png"), ("CMYK", "jpg"), ("LA", "webp")])
def test_unusual_pictures_are_taken_and_shown(page: Page, tmp_path: Path, mode: str, suffix: str) -> None:
    path = tmp_path / f"unusual.{suffix}"
    Image.new(mode, (300, 200)).save(path)
    shown = page.locator("#lsn-photo img").get_attribute("src")
    upload(page, path)
    expect(page.locator("#lsn-photo img")).not_to_have_attribute("src", str(shown))
    page.wait_for_function("document.querySelector('#lsn-photo img')?.naturalWidth > 0")
    expect(page.locator("#lsn-verdict")).to_have_attribute("data-verdict", re.compile("ID|OOD"))


def test_a_huge_picture_is_refused_by_its_size(page: Page, tmp_path: Path) -> None:
    Image.new("1", (20_000, 15_000)).save(tmp_path / "huge.png")
    upload(page, tmp_path / "huge.png")
    expect(page.locator("#lsn-message-photo")).to_contain_text("pixels")
    expect(page.locator("#lsn-verdict")).to_contain_text("No verdict")


def test_a_calibration_promises_its_rate_and_ends_with_the_classes_that_it_was_for(
    page: Page, examples: Path, tmp_path: Path
) -> None:
    pick_example(page, "dog")
    ask(page, ", ".join(ANIMALS))
    card = page.locator("#lsn-verdict")
    expect(card).to_have_attribute("data-calibrated", "false")
    unfold(page, "#lsn-settings")
    calibrate(page, crops(examples, tmp_path, ANIMALS, 24))
    expect(card).to_have_attribute("data-calibrated", "true")
    expect(card).to_contain_text("Keeps at least 95 % of known photos")
    unfold(page, "#lsn-details")
    page.wait_for_selector("#lsn-scale .bars path")
    before = page.locator("#lsn-why .lsn-total .lsn-amount").inner_text()
    slider = page.locator("#lsn-tpr input[type=range]")
    slider.focus()
    for _ in range(10):
        slider.press("ArrowLeft")
    expect(card).to_contain_text("Keeps at least 85 % of known photos")
    slider.blur()
    slider.press("End")  # 99 %, for which 24 photos are too few
    expect(card).to_contain_text("99 are needed")
    expect(card).to_have_attribute("data-calibrated", "false")
    expect(page.locator("#lsn-why .lsn-total .lsn-amount")).not_to_have_text(before)
    ask(page, "dog, cat, elephant, zebra")
    expect(page.locator("#lsn-calibration-note")).to_contain_text("it is gone")
    expect(card).to_have_attribute("data-calibrated", "false")
    expect(page.locator("body")).not_to_contain_text("at least")


def test_ten_photos_promise_nothing(page: Page, examples: Path, tmp_path: Path) -> None:
    unfold(page, "#lsn-settings")
    calibrate(page, crops(examples, tmp_path, ("church", "guitar"), 10))
    card = page.locator("#lsn-verdict")
    expect(card).to_have_attribute("data-calibrated", "false")
    expect(card).to_contain_text("10 calibration photos cannot promise 95 %: 19 are needed")
    expect(card).to_have_attribute("data-verdict", re.compile("ID|OOD"))


def heat_maps(page: Page) -> list[str]:
    page.wait_for_function("document.querySelector('#lsn-heat-maps img')?.naturalWidth > 0")
    return page.locator("#lsn-heat-maps .caption-label").all_inner_texts()


def test_a_trained_detector_shows_where_its_positive_and_negative_prompts_look(page: Page, tmp_path: Path) -> None:
    unfold(page, "#lsn-settings")
    choose_option(page, "#lsn-detector", "imagenette")
    pick_example(page, "church")
    captions = page.locator("#lsn-heat-maps .caption-label")
    expect(captions.first).to_contain_text("church")
    expect(captions).to_have_count(4)
    assert [text.split(":")[0] for text in heat_maps(page)] == [
        "church",
        "learned no to church (1)",
        "learned no to church (2)",
        "learned no to church (3)",
    ]
    before = page.locator("#lsn-heat-maps img").first.get_attribute("src")
    choose_option(page, "#lsn-heat-class", "golf ball")
    expect(captions.first).to_contain_text("golf ball")
    assert page.locator("#lsn-heat-maps img").first.get_attribute("src") != before
    choose_option(page, "#lsn-heat-kind", "Positive minus negative")
    expect(captions).to_have_count(3)
    with page.expect_download() as download:
        page.locator("#lsn-heat-download").click()
    download.value.save_as(tmp_path / "maps.png")
    with Image.open(tmp_path / "maps.png") as picture:
        assert picture.format == "PNG" and picture.width > 800


def test_only_heat_map_methods_that_fit_the_model_are_offered(page: Page) -> None:
    pick_example(page, "dog")
    ask(page, ", ".join(ANIMALS))
    expect(page.locator("#lsn-heat-maps .caption-label")).to_have_count(2)
    assert len(heat_maps(page)) == 2
    page.wait_for_timeout(1500)  # the maps are drawn once more for the detector that the new classes chose
    page.locator("#lsn-heat-method input").click()
    offered = page.get_by_role("listbox").get_by_role("option").all_inner_texts()
    assert any("grad-cam" in text for text in offered) and not any("legrad" in text for text in offered)
    page.get_by_role("option", name="eigen-cam (one map for all texts)").click()
    expect(page.locator("#lsn-heat-legend")).to_contain_text("All maps are the same")
    expect(page.locator("#lsn-message-heat")).to_be_hidden()
    expect(page.locator("#lsn-heat-maps .caption-label")).to_have_count(2)


def test_a_link_opens_with_its_example_and_classes(browser: Browser, app_url: str) -> None:
    page = browser.new_page()
    page.goto(f"{app_url}/?example=zebra.jpg&classes=zebra,church")
    expect(page.locator("#lsn-verdict h2")).to_contain_text("Known: zebra", timeout=30_000)
    expect(page.locator("#lsn-classes textarea")).to_have_value("zebra,church")
    page.close()


def test_a_link_opens_with_a_detector_and_says_what_in_it_is_wrong(browser: Browser, app_url: str) -> None:
    page = browser.new_page()
    page.goto(f"{app_url}/?tab=detect&detector=imagenette&example=church.jpg")
    expect(page.locator("#lsn-verdict h2")).to_contain_text("Known: church", timeout=30_000)
    expect(page.locator("#lsn-classes textarea")).to_have_value(re.compile("golf ball"))
    page.goto(f"{app_url}/?detector=nobody&tpr=7&example=unicorn.jpg")
    for words in ("a detector, “nobody”", "“7”, is not between", "“unicorn.jpg”"):
        expect(page.locator("#lsn-message-model")).to_contain_text(words)
    page.close()


def test_back_goes_back_a_tab(page: Page) -> None:
    page.get_by_role("tab", name="Train").click()
    expect(page).to_have_url(re.compile("tab=train$"))
    page.get_by_role("tab", name="Evaluate").click()
    expect(page).to_have_url(re.compile("tab=evaluate$"))
    page.go_back()
    expect(page.get_by_role("tab", name="Train")).to_have_attribute("aria-selected", "true")
    page.go_back()
    expect(page.get_by_role("tab", name="Detect")).to_have_attribute("aria-selected", "true")
    expect(page.locator("#lsn-verdict")).to_be_visible()


def test_one_example_can_be_reached_by_tab_and_the_others_by_arrows(page: Page) -> None:
    first, second = (page.locator("#lsn-examples button").nth(index) for index in (0, 1))
    assert page.locator("#lsn-examples button[tabindex='0']").count() == 1
    first.focus()
    page.keyboard.press("ArrowRight")
    expect(second).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#lsn-credit")).to_contain_text(second.inner_text())


def test_a_preview_of_a_link_has_words_and_a_picture(app_url: str) -> None:
    html = httpx.get(app_url).text
    assert "Learn to say no" in html and "when a photo shows none of them" in html and "/preview.png" in html
    assert httpx.get(f"{app_url}/preview.png").headers["content-type"] == "image/png"


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
