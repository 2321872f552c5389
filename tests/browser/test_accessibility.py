"""What axe-core finds on each tab, light and dark, wide and on a phone; and the page by the keyboard alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

TABS = ("detect", "not", "train", "evaluate")
SIZES = {"wide": (1280, 900), "phone": (375, 740)}


@pytest.fixture(params=SIZES)
def sized(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Page]:
    width, height = SIZES[request.param]
    context = browser.new_context(viewport={"width": width, "height": height}, reduced_motion="reduce")
    context.set_default_timeout(30_000)
    yield context.new_page()
    context.close()


def serious(page: Page) -> list[tuple[Any, Any]]:
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        (one["id"], [node["html"][:120] for node in one["nodes"]])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("tab", TABS)
def test_nothing_serious_is_found_on_a_tab(sized: Page, app_url: str, tab: str, theme: str) -> None:
    sized.goto(f"{app_url}/?__theme={theme}&tab={tab}")
    sized.wait_for_function("window.lsnLinkIsRead")
    expect(sized.get_by_role("tab", selected=True)).to_have_attribute("data-tab-id", tab)
    if tab == "detect":
        sized.wait_for_selector("#lsn-heat-maps img")
    sized.wait_for_timeout(500)  # names are given after what they name was drawn
    assert serious(sized) == []
    assert sized.evaluate("document.documentElement.scrollWidth <= innerWidth")  # nothing to scroll to sideways


def test_places_for_files_are_told_apart_by_their_names(page: Page) -> None:
    page.get_by_role("tab", name="Evaluate").click()
    names = page.locator("#eval-known button, #eval-others button").evaluate_all(
        "buttons => buttons.map(button => button.getAttribute('aria-label')).filter(name => /upload/i.test(name))"
    )
    assert len(names) == 2 and names[0].startswith("Known:") and names[0] != names[1]


def test_the_first_answer_by_keyboard_alone(page: Page) -> None:
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('#lsn-examples') !== null"):
            break
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
    assert float(outline.removesuffix("px")) >= 2  # the ring is seen
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.locator("#lsn-credit")).to_contain_text("zebra")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Space")
    expect(page.locator("#lsn-credit")).to_contain_text("elephant")


def test_cases_take_one_row_on_a_phone(sized: Page, app_url: str) -> None:
    sized.goto(f"{app_url}/?tab=not")
    expect(sized.locator("#not-figure-8")).to_be_attached()
    sized.wait_for_function("window.lsnLinkIsRead")
    tops = sized.locator("#not-cases button").evaluate_all(
        "bs => bs.map(b => Math.round(b.getBoundingClientRect().top))"
    )
    assert len(tops) == 5 and len(set(tops)) == 1
    sized.locator("#not-figure-8").click()  # the last one can be reached
    expect(sized.locator("#not-choice h3")).to_contain_text("Figure 8")
