"""What is said of a backbone where it is offered."""

from __future__ import annotations

import pytest

from lsn_app.serving.store import Store
from lsn_app.shared.words import backbone_note
from lsn_core.suggested import SUGGESTIONS, suggestion


@pytest.mark.parametrize("one", SUGGESTIONS[1:], ids=lambda one: one.name)
def test_a_suggested_backbone_says_what_it_is_good_for_and_takes(one) -> None:
    said = backbone_note(one.name)
    assert one.good_for.split("'")[0] in said and f"{one.memory_gib:.1f} GiB" in said and "downloaded" in said
    assert ("lsn-core[transformers]" in said) == (one.needs == "transformers")
    assert one.licence in said and ("for research only" in said) == (one.only_for == "research")


def test_of_the_embedded_one_its_limits_are_said_and_of_others_nothing() -> None:
    assert "trained by this project" in backbone_note("embedded")
    assert backbone_note("RN50:openai") == ""


def test_strangers_are_offered_the_smaller_ones_and_owners_all() -> None:
    assert [*Store().choices] == [one.name for one in SUGGESTIONS]
    offered = [suggestion(name) for name in Store(public=True).choices]
    assert len(offered) >= 5 and all(one is not None and one.parameters < 2e8 and one.needs is None for one in offered)
