"""Docstrings of the library's twelve names: every argument is told, and the examples give what they say."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
from pathlib import Path

import pytest
from support import REPO

import lsn_core


@pytest.mark.parametrize("name", lsn_core.__all__)
def test_every_argument_is_told(name: str) -> None:
    thing = getattr(lsn_core, name)
    text = inspect.getdoc(thing) or ""
    if inspect.isfunction(thing):
        told = set(re.findall(r"^ {4}([\w, ]+):", text, re.MULTILINE))
        told = {part for names in told for part in re.split(r",\s*", names)}
        assert set(inspect.signature(thing).parameters) - told == set()
        assert "Raises:" in text


@pytest.mark.parametrize("name", lsn_core.__all__)
def test_the_example_gives_what_it_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPO)
    thing = getattr(lsn_core, name)
    source = Path(inspect.getsourcefile(thing) or "")
    module = importlib.import_module(".".join(source.relative_to(REPO).with_suffix("").parts))
    examples = doctest.DocTestFinder(recurse=False).find(thing, name, module=module, globs={})
    assert examples and examples[0].examples
    report: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(examples[0], out=report.append)
    assert result.failed == 0, "".join(report)
