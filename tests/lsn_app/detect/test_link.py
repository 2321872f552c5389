"""What a link to the Detect tab asks for, and what in it is wrong."""

from __future__ import annotations

import pytest

from lsn_app.detect.link import Link, read_link
from lsn_app.serving.requests import ZERO_SHOT

LABELS, BACKBONES, EXAMPLES = (ZERO_SHOT, "imagenette"), ("embedded",), ("dog.jpg",)


@pytest.mark.parametrize(
    ("query", "link"),
    [
        ({}, Link(None, None, None, None, None, "")),
        (
            {"detector": "imagenette", "tpr": "0.9", "example": "dog.jpg"},
            Link(None, "imagenette", None, 0.9, "dog.jpg", ""),
        ),
        ({"classes": "a,b", "backbone": "embedded"}, Link("a,b", ZERO_SHOT, "embedded", None, None, "")),
        ({"classes": "a,b", "detector": "imagenette"}, Link("a,b", "imagenette", None, None, None, "")),
    ],
)
def test_links_are_read(query: dict[str, str], link: Link) -> None:
    assert read_link(query, LABELS, BACKBONES, EXAMPLES) == link


@pytest.mark.parametrize(
    ("name", "value"), [("detector", "x"), ("backbone", "local-dir:/"), ("example", "../x"), ("tpr", "7"), ("tpr", "")]
)
def test_what_cannot_be_had_is_named_and_left_out(name: str, value: str) -> None:
    link = read_link({name: value}, LABELS, BACKBONES, EXAMPLES)
    assert f"“{value}”" in link.wrong and link == Link(None, None, None, None, None, link.wrong)
