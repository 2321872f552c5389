"""Answers that overtake each other: a newer photo of a browser session stays on the page."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lsn_app import Settings, build_app
from lsn_app.detect import tab as detect
from lsn_app.negation import tab as negation
from lsn_app.serving.encoder import Encoder
from lsn_app.serving.photos import Photo
from lsn_app.shared.shared import Shared
from lsn_app.shared.turns import Turns


class Page:
    """A tab's functions as a browser calls them, and a photo whose answer waits until it is let go."""

    def __init__(self, name: str, tab: Any) -> None:
        self.name, self.tab = name, tab
        self.hold, self.held, self.go = "", threading.Event(), threading.Event()

    def wait(self, photo: Photo) -> None:
        if photo.name == self.hold:
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

    def shown(self, updates: dict[Any, Any]) -> str | None:
        photo = updates.get(self.tab.photo.state)
        return photo.name if photo is not None else None


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
    monkeypatch.setattr(Encoder, "encode_photo", lambda self, photo: (page.wait(photo), encode(self, photo))[1])
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


def test_turns_are_of_one_session_and_questions_get_the_newest_photo() -> None:
    turns = Turns()
    opening = turns.opening("one")
    other, first = turns.begin("other"), turns.begin("one")
    assert opening.over and turns.opening("one").over and not other.over and turns.now("one") is first
    second = turns.begin("one")
    assert first.over and not second.over and turns.now("one") is second
