"""What a person does on the tab about "not", with real photos, and what the page then says."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from playwright.sync_api import Browser, Page, expect
from support import choose_option

from lsn_core import Backbone
from lsn_core.data.images import open_image
from lsn_core.negation import choose

TITLE = "CLIP and “not”"


@pytest.fixture
def tab(browser: Browser, app_url: str) -> Iterator[Page]:
    """The tab, opened by a link."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    context.set_default_timeout(30_000)
    expect.set_options(timeout=30_000)  # the machine may be busy
    page = context.new_page()
    page.goto(f"{app_url}/?tab=not")
    page.wait_for_selector("#not-choice")
    yield page
    context.close()


def pick_example(page: Page, name: str) -> None:
    page.locator("#not-examples button").filter(has_text=re.compile(f"^\\s*{name}\\s*$")).click()
    # Its answer is there before anything else is asked, which an answer on its way would take the place of.
    expect(page.locator("#not-credit")).to_contain_text(name)


def write(page: Page, place: str, text: str) -> None:
    page.locator(f"{place} textarea, {place} input").first.fill(text)


def chosen(page: Page) -> str:
    return page.locator("#not-choice .not-chosen .not-words").last.inner_text()


def rows(page: Page, side: str) -> list[list[str]]:
    cells = page.locator(f"{side} .not-ranked tbody tr").all()
    return [row.locator("th, td").all_inner_texts() for row in cells]


def saved(page: Page, place: str) -> list[dict[str, str]]:
    with page.expect_download() as download:
        page.locator(f"{place} a").click()
    text = Path(download.value.path()).read_text(encoding="utf-8-sig")
    return list(csv.DictReader(io.StringIO(text)))


def choose_detector(page: Page, name: str) -> None:
    choose_option(page, "#not-detector", name)


def test_figure_3_by_one_click_denies_the_elephant_that_is_there(tab: Page) -> None:
    tab.get_by_role("button", name=re.compile("Figure 3")).click()
    card = tab.locator("#not-choice")
    expect(card).to_contain_text("Question 2 of 2")
    marks = card.locator(".not-verdict").all_inner_texts()
    assert "Right." in marks[0] and "Wrong." in marks[1]
    assert chosen(tab).startswith("“not a photo of an elephant”")
    expect(tab.locator("#not-photo img")).to_be_visible()
    expect(tab.locator("#not-truth textarea, #not-truth input").first).to_have_value("elephant")
    expect(tab.locator("#not-credit")).to_contain_text("CC BY 2.0")


@pytest.mark.parametrize(("figure", "questions"), [(4, 2), (8, 3)])
def test_the_other_figures_ask_their_questions(tab: Page, figure: int, questions: int) -> None:
    tab.get_by_role("button", name=re.compile(f"Figure {figure}")).click()
    expect(tab.locator("#not-choice h3")).to_contain_text(f"Figure {figure}")
    expect(tab.locator("#not-choice .not-round")).to_have_count(questions)


def test_two_typed_texts_are_chosen_from_and_the_loser_gets_a_not(tab: Page) -> None:
    pick_example(tab, "cat")
    expect(tab.locator("#not-choice .not-chosen")).to_have_count(1)
    write(tab, "#not-text-1", "a photo of a cat")
    write(tab, "#not-text-2", "a photo of a church")
    tab.locator("#not-text-2 textarea").press("Enter")
    expect(tab.locator("#not-choice .not-chosen")).to_contain_text("a photo of a cat")
    shares = [float(text.rstrip("%")) for text in tab.locator("#not-choice .not-share").all_inner_texts()]
    assert shares[0] > shares[1] and sum(shares) == pytest.approx(100, abs=0.2)
    tab.locator("#not-negate").click()
    expect(tab.locator("#not-choice .not-round")).to_have_count(2)
    expect(tab.locator("#not-text-2 textarea")).to_have_value("not a photo of a church")
    write(tab, "#not-text-1", " ")
    tab.locator("#not-ask").click()
    expect(tab.locator("#not-message-texts")).to_contain_text("none may be empty")


def test_the_table_ranks_every_class_and_wording_and_marks_wrong_choices_in_words(tab: Page) -> None:
    pick_example(tab, "elephant")
    write(tab, "#not-classes", "elephant, dog, cat")
    tab.locator("#not-classes textarea").press("Enter")
    expect(tab.locator("#not-written .not-ranked tbody tr")).to_have_count(15)  # 3 classes, 1 + 4 wordings
    found = rows(tab, "#not-written")
    texts = [text.splitlines()[0] for _, text, _, _ in found]
    assert found[texts.index("a photo of an elephant")][1].splitlines()[1].startswith("true here")
    denial = found[texts.index("not a photo of an elephant")][1]
    assert re.search(r"false here; \s*[✕~]\s* wrong: beats \d of 3 true texts", denial)
    probabilities = [float(row[2].rstrip("%")) for row in found]
    assert probabilities == sorted(probabilities, reverse=True)
    expect(tab.locator("#not-marked")).to_contain_text("for a photo of: elephant")
    table = saved(tab, "#not-table-link")
    assert [row["text"] for row in table] == texts
    write(tab, "#not-classes", "elephant, Elephant")
    tab.locator("#not-classes textarea").press("Enter")
    expect(tab.locator("#not-message-classes")).to_contain_text("is given twice")


def test_a_detector_answers_the_same_questions_beside(tab: Page) -> None:
    pick_example(tab, "church")
    choose_detector(tab, "imagenette")
    expect(tab.locator("#not-learned .not-tally tbody tr")).to_have_count(3)
    expect(tab.locator("#not-own-classes")).to_contain_text("golf ball")
    expect(tab.locator("#not-classes")).to_be_hidden()
    by_hand = tab.locator("#not-written .not-tally tbody tr").first.locator("td").last.inner_text()
    learned = tab.locator("#not-learned .not-tally tbody tr").first.locator("td").last.inner_text()
    assert "0 of 9 right" in by_hand and "9 of 9 right" in learned


def test_several_photos_give_bars_and_a_csv_and_a_bad_one_is_named(tab: Page, examples: Path, tmp_path: Path) -> None:
    (tmp_path / "note.jpg").write_text("no picture")
    write(tab, "#not-classes", "dog, =cat")
    files = [examples / "dog.jpg", examples / "cat.jpg", tmp_path / "note.jpg"]
    tab.locator("#not-files input[type=file]").set_input_files(files)
    expect(tab.locator("#not-counted")).to_contain_text("2 photos were asked")
    expect(tab.locator("#not-counted")).to_contain_text("note.jpg: this is not an image")
    tab.wait_for_selector("#not-written-bars .js-plotly-plot .bars path", state="attached")
    # Waits: the photos may have been asked about the classes before, too.
    expect(tab.locator("#not-written-bars .ytick text")).to_have_text(["dog", "=cat"])
    counts = saved(tab, "#not-counts-link")
    assert len(counts) == 2 * 4 and {row["class"] for row in counts} == {"dog", "'=cat"}
    assert {row["photos"] for row in counts} == {"2"}


def test_a_zip_of_class_folders_brings_its_classes_and_what_is_right(tab: Page, examples: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for name in ("church", "zebra", "guitar"):
            archive.write(examples / f"{name}.jpg", f"{name}/1.jpg")
    tab.locator("#not-files input[type=file]").set_input_files(tmp_path / "set.zip")
    expect(tab.locator("#not-counted")).to_contain_text("3 photos were asked")
    expect(tab.locator("#not-classes textarea")).to_have_value("church, guitar, zebra")
    expect(tab.locator("#not-written-bars .legendtext").first).to_contain_text("photos of the class")
    assert {row["photos_of_class"] for row in saved(tab, "#not-counts-link")} == {"1"}


def test_a_bad_photo_is_told_by_the_photo_and_no_photo_too(tab: Page, tmp_path: Path) -> None:
    tab.locator("#not-ask").click()
    expect(tab.locator("#not-message-photo")).to_contain_text("no photo yet")
    (tmp_path / "note.jpg").write_text("this is no picture")
    tab.locator("#not-photo input[type=file]").set_input_files(tmp_path / "note.jpg")
    expect(tab.locator("#not-message-photo")).to_contain_text("note.jpg: this is not an image")


def test_one_click_shows_what_learning_changes(page: Page) -> None:
    page.get_by_role("tab", name=TITLE).click()
    page.locator("#not-learning").click()
    lines = page.locator("#not-choice .not-contrast li")
    expect(lines).to_have_count(2)
    pairs = [re.findall(r"(\d+) of (\d+) right", line.inner_text())[0] for line in lines.all()]
    shares = [(int(right), int(count)) for right, count in pairs]
    assert shares[0][0] / shares[0][1] < shares[1][0] / shares[1][1]
    expect(page.locator("#not-learned table").first).to_be_visible()
    expect(page.locator("#not-truth textarea, #not-truth input").first).not_to_have_value("")


def test_links_open_the_tab_and_the_address_follows(browser: Browser, app_url: str) -> None:
    page = browser.new_page()
    page.goto(f"{app_url}/?tab=not&figure=4")
    expect(page.locator("#not-choice h3")).to_contain_text("Figure 4", timeout=30_000)
    page.goto(f"{app_url}/?tab=not&figure=2")
    expect(page.locator("#not-choice h3")).to_contain_text("Figure 2", timeout=30_000)
    expect(page.locator("#not-choice figcaption").nth(1)).to_contain_text("learned no to")
    expect(page.locator("#not-choice figure img").first).to_be_visible()
    page.wait_for_function("window.lsnLinkIsRead")  # from then on the address follows the tabs
    page.get_by_role("tab", name="Detect").click()
    page.wait_for_function("new URL(location).searchParams.get('tab') === 'detect'")
    page.get_by_role("tab", name=TITLE).click()
    page.wait_for_function("new URL(location).searchParams.get('tab') === 'not'")
    page.goto(f"{app_url}/?tab=nothing")
    expect(page.locator("#lsn-verdict h2")).to_be_visible(timeout=30_000)
    page.close()


def test_a_copied_address_asks_the_same(browser: Browser, tab: Page) -> None:
    tab.get_by_role("button", name=re.compile("Figure 8")).click()
    tab.wait_for_function("new URL(location).searchParams.get('figure') === '8'")
    pick_example(tab, "cat")
    write(tab, "#not-text-1", "a photo of a cat & a dog")
    write(tab, "#not-classes", "cat, zebra")
    tab.locator("#not-classes textarea").press("Enter")
    tab.locator("#not-text-1 textarea").press("Enter")
    tab.wait_for_function("new URL(location).searchParams.get('text1') === 'a photo of a cat & a dog'")
    tab.wait_for_function("new URL(location).searchParams.get('about') === 'cat, zebra'")
    expect(tab.locator("#not-choice .not-words").first).to_contain_text("a cat & a dog")
    assert "figure" not in tab.url
    copy = browser.new_page()
    copy.goto(tab.url)
    expect(copy.locator("#not-choice .not-words").first).to_contain_text("a cat & a dog")
    expect(copy.locator("#not-written .not-ranked tbody tr")).to_have_count(10)  # 2 classes, 1 + 4 wordings
    assert copy.locator("#not-choice").inner_text() == tab.locator("#not-choice").inner_text()
    copy.close()


def test_nothing_is_wider_than_a_phone(browser: Browser, app_url: str, examples: Path) -> None:
    page = browser.new_page(viewport={"width": 375, "height": 800})
    page.goto(f"{app_url}/?tab=not&figure=8")
    page.wait_for_selector("#not-choice .not-round", timeout=30_000)
    page.locator("#not-files input[type=file]").set_input_files([examples / "dog.jpg"])
    page.wait_for_selector("#not-written-bars .js-plotly-plot .bars path", state="attached", timeout=30_000)
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    page.close()


def test_the_keyboard_reaches_a_figure_and_shows_it(tab: Page) -> None:
    tab.locator("#not-figure-3").focus()
    tab.keyboard.press("Enter")
    expect(tab.locator("#not-choice")).to_contain_text("Question 2 of 2")


def test_the_endpoint_gives_the_numbers_of_the_library(
    app_url: str, embedded: Backbone, examples: Path, tmp_path: Path
) -> None:
    client = Client(app_url, verbose=False)
    texts = ["not a photo of a zebra", "not a photo of a dog", "a photo of grass"]
    line = client.predict(handle_file(examples / "zebra.jpg"), texts, api_name="/probe")
    expected = choose(embedded.encode_images([open_image(examples / "zebra.jpg")]), texts, embedded)
    assert (line["file"], line["chosen"], line["error"]) == ("zebra.jpg", expected.chosen, None)
    assert line["probabilities"] == pytest.approx(expected.probabilities, abs=1e-4)
    assert line["cosines"] == pytest.approx(expected.cosines, abs=1e-5)
    assert "Two texts" in client.predict(handle_file(examples / "zebra.jpg"), ["one"], api_name="/probe")["error"]
    address = {"path": "http://127.0.0.1:9/x.jpg", "meta": {"_type": "gradio.FileData"}}
    with pytest.raises(AppError, match="web addresses are not fetched"):
        client.predict(address, texts, api_name="/probe")
    outside = {"path": "/etc/hostname", "orig_name": "x.jpg", "meta": {"_type": "gradio.FileData"}}
    started = httpx.post(f"{app_url}/gradio_api/call/probe", json={"data": [outside, texts]}).json()
    answer = httpx.get(f"{app_url}/gradio_api/call/probe/{started['event_id']}", timeout=30).text
    assert answer.startswith("event: error")
