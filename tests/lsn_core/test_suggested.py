"""Suggested backbones: what is said of them is so, and the one that is taken fits."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from lsn_core import Backbone, UserError
from lsn_core.backbones.catalogue import facts_of
from lsn_core.cli.app import build
from lsn_core.shipped import EMBEDDED
from lsn_core.suggested import SUGGESTIONS, suggest_backbone, suggestion


@pytest.mark.parametrize("one", SUGGESTIONS[1:], ids=lambda one: one.name)
def test_its_numbers_are_open_clips(one) -> None:
    facts = facts_of(one.name)
    assert (one.parameters, one.image_size, one.needs) == (facts.parameters, facts.image_size, facts.needs)
    assert (one.licence, one.only_for) == (facts.licence, facts.only_for)
    assert facts.promptable


def test_the_embedded_ones_numbers_are_its_own(embedded: Backbone) -> None:
    assert SUGGESTIONS[0].name == EMBEDDED
    assert SUGGESTIONS[0].parameters == sum(parameter.numel() for parameter in embedded.model.parameters())


def test_they_go_by_size() -> None:
    sizes = [one.parameters for one in SUGGESTIONS]
    assert sizes == sorted(sizes) and len({one.name for one in SUGGESTIONS}) == len(SUGGESTIONS)


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:1"])
def test_more_memory_never_suggests_less(device: str) -> None:
    taken = [suggest_backbone(gib, device) for gib in (1.0, 1.5, 2.0, 3.0, 8.0, 80.0)]
    assert [one.parameters for one in taken] == sorted(one.parameters for one in taken)
    for gib, one in zip((1.0, 1.5, 2.0, 3.0, 8.0, 80.0), taken, strict=True):
        assert one.memory_gib <= gib and one.needs is None and one.only_for is None
        assert one.on_cpu or device != "cpu"
    assert taken[0].name == EMBEDDED and taken[-1].name != EMBEDDED
    with pytest.raises(UserError, match="the least is embedded"):
        suggest_backbone(0.1, device)


def test_other_backbones_are_no_suggestion() -> None:
    assert suggestion("ViT-B-16:openai") in SUGGESTIONS and suggestion("RN50:openai") is None


def test_doctor_marks_the_one_that_fits() -> None:
    command = ["doctor", "--suggest", "--memory-gib", "1.5", "--device", "cpu"]
    rows = [json.loads(line) for line in CliRunner().invoke(build(), [*command, "--json"]).stdout.splitlines()]
    assert [row["name"] for row in rows if row["suggested"]] == ["ViT-B-32:laion2b_s34b_b79k"]
    said = CliRunner().invoke(build(), command).stdout
    assert "For 1.5 GiB of cpu: ViT-B-32:laion2b_s34b_b79k" in said and "For research only." in said


def test_the_list_needs_neither_torch_nor_open_clip() -> None:
    code = "import sys, lsn_core.suggested; sys.exit(bool({'torch', 'open_clip', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
