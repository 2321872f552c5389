"""Answers that overtake each other: the newest photo and the newest question of a browser session stay on the page."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import gradio as gr
import pytest

from lsn_app import Settings, build_app
from lsn_app.detect import tab as detect
from lsn_app.negation import batch_panel
from lsn_app.negation import tab as negation
from lsn_app.serving.encoder import Encoder
from lsn_app.serving.photos import read_photo
from lsn_app.serving.requests import ZERO_SHOT
from lsn_app.shared.shared import Shared
from lsn_app.shared.turns import Turns
from lsn_app.shared.uploads import Batch
from lsn_core.shipped import EXAMPLES_DIR


class Page:
    """A tab's functions as a browser calls them, and a photo whose answer waits until it is let go."""

    def __init__(self, name: str, tab: Any) -> None:
        self.name, self.tab = name, tab
        self.hold, self.held, self.go = "", threading.Event(), threading.Event()

    def wait(self, name: str) -> None:
        if name == self.hold:
            self.held.set()
            assert self.go.wait(30)

    def values(self) -> dict[Any, Any]:
        tab = self.tab
        blocks = {*tab.asked, tab.photo.state, tab.shared.owner}
        return {block: block.value for block in blocks}

    def request(self, **query: str) -> Any:
        return SimpleNamespace(session_hash="one", query_params={"tab": self.name, **query})

    def upload(self, path: Path) -> dict[Any, Any]:
        given = {"path": str(path), "orig_name": path.name}
        updates: dict[Any, Any] = self.tab.take_own({**self.values(), self.tab.photo.own: given}, self.request())
        return updates

    def open(self, **query: str) -> dict[Any, Any]:
        updates: dict[Any, Any] = self.tab.open_link(self.request(**query), self.values())
        return updates

    def with_photo(self) -> dict[Any, Any]:
        cat = EXAMPLES_DIR / "cat.jpg"
        return {**self.values(), self.tab.photo.state: read_photo(str(cat), cat.name)}

    def shown(self, updates: dict[Any, Any]) -> str | None:
        photo = updates.get(self.tab.photo.state)
        return photo.name if photo is not None else None


def only(tab: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", [tab], indirect=True)


def late_free(page: Page, event: Callable[..., dict[Any, Any]], values: dict[Any, Any]) -> Future[dict[Any, Any]]:
    """Begins a question that may wait for the photo, which is on its way."""
    with ThreadPoolExecutor(1) as pool:
        threading.Timer(0.3, page.go.set).start()
        return pool.submit(event, values, page.request())


@pytest.fixture(params=["detect", "not"])
def page(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    tabs: dict[str, Any] = {}
    for module, kind in ((detect, "_DetectTab"), (negation, "_NegationTab")):
        made = getattr(module, kind)

        def make(shared: Shared, made: Any = made, kind: str = kind) -> Any:
            tabs[kind] = made(shared)
            return tabs[kind]

        monkeypatch.setattr(module, kind, make)
    build_app(Settings(data_dir=tmp_path / "data"))
    page = Page(request.param, tabs["_DetectTab" if request.param == "detect" else "_NegationTab"])
    encode = Encoder.encode_photo
    monkeypatch.setattr(Encoder, "encode_photo", lambda self, photo: (page.wait(photo.name), encode(self, photo))[1])
    yield page
    page.go.set()


@pytest.fixture
def late(page: Page) -> Iterator[Callable[..., Future[dict[Any, Any]]]]:
    """Begins an event that does not end before `page.go` is set, and returns once it waits."""
    with ThreadPoolExecutor(1) as pool:

        def begin(name: str, event: Callable[..., dict[Any, Any]], *args: Any, **query: str) -> Future[dict[Any, Any]]:
            page.hold = name
            future = pool.submit(event, *args, **query)
            assert page.held.wait(30)
            page.hold = ""
            return future

        yield begin
        page.go.set()


def test_what_a_page_opens_with_never_takes_the_place_of_an_upload(
    page: Page, late: Callable[..., Future[dict[Any, Any]]], examples: Path
) -> None:
    name = "example" if page.name == "detect" else "photo"
    opening = late("zebra.jpg", page.open, **{name: "zebra.jpg"})
    assert page.shown(page.upload(examples / "cat.jpg")) == "cat.jpg"
    page.go.set()
    late_answer = opening.result()
    assert page.shown(late_answer) is None and page.tab.photo.image not in late_answer
    assert page.shown(page.open(**{name: "zebra.jpg"})) is None  # nor does one that begins later


def test_an_older_photo_never_takes_the_place_of_a_newer_one(
    page: Page, late: Callable[..., Future[dict[Any, Any]]], examples: Path
) -> None:
    older = late("dog.jpg", page.upload, examples / "dog.jpg")
    assert page.shown(page.upload(examples / "cat.jpg")) == "cat.jpg"
    page.go.set()
    assert page.shown(older.result()) is None
    assert page.shown(page.upload(examples / "dog.jpg")) == "dog.jpg"


def typed(page: Page, classes: str) -> dict[Any, Any]:
    return {**page.with_photo(), page.tab.shared.classes: classes, page.tab.shared.detector: ZERO_SHOT}


@only("detect")
def test_an_older_class_list_never_takes_the_place_of_a_newer_one(
    page: Page, late: Callable[..., Future[dict[Any, Any]]]
) -> None:
    older = late("cat.jpg", page.tab.ask_typed, typed(page, "cat, dog"), page.request())
    newer = page.tab.ask_typed(typed(page, "car, cat"), page.request())
    page.go.set()
    assert set(newer[page.tab.answer].prediction.positive) == {"car", "cat"}
    assert older.result() == gr.skip()


@only("detect")
def test_a_slider_that_was_moved_while_a_verdict_was_on_its_way_sets_its_threshold(
    page: Page, late: Callable[..., Future[dict[Any, Any]]]
) -> None:
    tab, question = page.tab, {**page.with_photo(), page.tab.shared.detector: "imagenette"}
    verdict = late("cat.jpg", tab.ask_again, question, page.request())
    tab.move_threshold(None, 0.9, page.request())
    page.go.set()
    answered = verdict.result()
    assert "at least 90 %" in answered[tab.card] and answered[tab.answer].tpr == 0.9
    # What the page has is older than what was answered: the slider moves the newest.
    assert "at least 85 %" in tab.move_threshold(None, 0.85, page.request())[tab.card]


@only("detect")
def test_the_slider_does_not_bring_back_an_older_answer(
    page: Page, late: Callable[..., Future[dict[Any, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    tab, question = page.tab, {**page.with_photo(), page.tab.shared.detector: "imagenette"}
    answer = tab.ask_again(question, page.request())[tab.answer]
    at = type(answer).at
    monkeypatch.setattr(type(answer), "at", lambda self, tpr: (page.wait(str(tpr)), at(self, tpr))[1])
    moved = late("0.9", tab.move_threshold, answer, 0.9, page.request())
    newer = tab.ask_typed(typed(page, "cat, dog"), page.request())
    page.go.set()
    assert newer[tab.card] and moved.result() == gr.skip()


@only("detect")
def test_a_question_that_was_asked_while_a_photo_was_read_is_about_that_photo(
    page: Page, late: Callable[..., Future[dict[Any, Any]]], examples: Path
) -> None:
    tab = page.tab
    photo = late("dog.jpg", page.upload, examples / "dog.jpg")
    page.hold = ""
    asked = late_free(page, tab.ask_typed, typed(page, "cat, dog"))
    page.go.set()
    shown, answer = photo.result(), asked.result()
    assert page.shown(shown) == "dog.jpg" and tab.card not in shown  # the newer question has the verdict
    assert set(answer[tab.answer].prediction.positive) == {"cat", "dog"}


@only("detect")
def test_the_inputs_of_an_older_choice_of_a_detector_stay_away(
    page: Page, late: Callable[..., Future[dict[Any, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    choice = page.tab.choice
    choose = choice.choose
    monkeypatch.setattr(choice, "choose", lambda label: (page.wait(label), choose(label))[1])
    older = late("imagenette", page.tab.choose_detector, "imagenette", page.request())
    newer = page.tab.choose_detector(ZERO_SHOT, page.request())
    page.go.set()
    assert choice.backbone in newer and older.result() == gr.skip()


@only("detect")
def test_the_heat_maps_of_an_older_question_stay_away(page: Page, late: Callable[..., Future[dict[Any, Any]]]) -> None:
    maps = page.tab.heat_maps
    inputs = {part: part.value for part in maps.inputs} | page.with_photo()
    older = late("cat.jpg", maps.show, inputs, page.request())
    newer = maps.show(inputs, page.request())
    page.go.set()
    assert newer[maps.gallery] and older.result() == gr.skip()


@only("detect")
def test_older_many_photos_and_older_verdicts_on_them_stay_away(
    page: Page, late: Callable[..., Future[dict[Any, Any]]], examples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = page.tab.many
    encode = Batch.encode
    monkeypatch.setattr(Batch, "encode", lambda self, *args: (page.wait(self.images.names[0]), encode(self, *args))[1])

    def give(name: str) -> dict[Any, Any]:
        files = [{"path": str(examples / name), "orig_name": name}]
        updates: dict[Any, Any] = many.take({**page.values(), many.files: files}, page.request(), Mock())
        return updates

    older = late("dog.jpg", give, "dog.jpg")
    batch = give("cat.jpg")[many.photos]
    page.go.set()
    assert older.result() == gr.skip() and batch.images.names == ("cat.jpg",)

    page.held.clear(), page.go.clear()
    asked = {**typed(page, "cat, dog"), many.photos: batch}
    first = late("cat.jpg", many.ask, asked, page.request(), Mock())
    second = many.ask({**asked, page.tab.shared.classes: "cat, car"}, page.request(), Mock())
    page.go.set()
    assert second[many.state].detector.class_names == ("cat", "car") and first.result() == gr.skip()


@only("not")
@pytest.mark.parametrize(("event", "part"), [("choose", "card"), ("negate", "card"), ("tabulate", "written")])
def test_an_older_question_about_not_never_takes_the_place_of_a_newer_one(
    page: Page, late: Callable[..., Future[dict[Any, Any]]], event: str, part: str
) -> None:
    tab = page.tab
    ask = getattr(tab, event)
    older = late("cat.jpg", ask, page.with_photo(), page.request())
    newer = ask({**page.with_photo(), tab.choice.texts[0]: "a photo of a lorry"}, page.request())
    page.go.set()
    assert newer[tab.choice.card if part == "card" else tab.table.written] and older.result() == gr.skip()


@only("not")
def test_texts_that_were_asked_while_a_photo_was_read_are_asked_of_that_photo(
    page: Page, late: Callable[..., Future[dict[Any, Any]]], examples: Path
) -> None:
    tab = page.tab
    photo = late("dog.jpg", page.upload, examples / "dog.jpg")
    page.hold = ""
    asked = late_free(page, tab.choose, {**page.with_photo(), tab.choice.texts[0]: "a photo of a lorry"})
    page.go.set()
    shown, answer = photo.result(), asked.result()
    assert page.shown(shown) == "dog.jpg" and tab.choice.card not in shown and tab.table.written in shown
    assert "lorry" in answer[tab.choice.card]


@only("not")
def test_older_counts_of_many_photos_stay_away(
    page: Page, late: Callable[..., Future[dict[Any, Any]]], examples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many, count = page.tab.many, batch_panel.count_photos
    waiting = lambda *args: (page.wait(args[1].class_names[0]), count(*args))[1]  # noqa: E731
    monkeypatch.setattr(batch_panel, "count_photos", waiting)
    files = [{"path": str(examples / "cat.jpg"), "orig_name": "cat.jpg"}]
    asked = {**page.values(), many.files: files}
    older = late("cat", many.count, {**asked, many.classes: "cat, dog"}, page.request(), Mock())
    newer = many.count({**asked, many.classes: "dog, cat"}, page.request(), Mock())
    page.go.set()
    assert newer[many.written] is not None and older.result() == gr.skip()


def test_turns_are_of_one_session() -> None:
    turns = Turns()
    opening = turns.opening("one")
    other, first = turns.begin("other"), turns.begin("one")
    assert opening.over and turns.opening("one").over and not other.over and turns.now("one") is first
    asked, another = first.ask("verdict"), first.ask("maps")
    assert not asked.over and first.ask("verdict") and asked.over and not another.over
    second = turns.begin("one")
    assert first.over and another.over and not second.over and turns.now("one") is second
