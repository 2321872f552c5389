"""A short selection of the corpus; `python -m benchmarks.reliability` tries all of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support import REPO

from lsn_app import Settings, build_app, launch_options
from lsn_core import Backbone
from tests.corpus.case import Case, Right, sample
from tests.corpus.every import every_case
from tests.corpus.hostile_images import image_cases
from tests.corpus.images import Pixels
from tests.corpus.outcome import Refused, problem_of, unclear
from tests.corpus.over_mcp import Mcp
from tests.corpus.ways import App, CommandLine, Library

SLOW = ("images, vast", "images, costly", "texts, sizes", "detector files, names")


@pytest.fixture(scope="module")
def cases(embedded: Backbone, tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    return every_case(embedded, tmp_path_factory.mktemp("calls"))


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPO)


@pytest.fixture(scope="module")
def app(embedded: Backbone) -> Iterator[App]:
    page = build_app(Settings())
    _, address, _ = page.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, **launch_options())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(REPO)
        yield App(address.rstrip("/"), "self", embedded)
    page.close()


@pytest.fixture(scope="module")
def public(embedded: Backbone) -> Iterator[str]:
    """The address of an app that strangers use, with MCP."""
    settings = Settings(public=True)
    page = build_app(settings)
    _, address, _ = page.launch(
        server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, **launch_options(settings, mcp=True)
    )
    yield address.rstrip("/")
    page.close()


def failed(runner: Library | CommandLine | App, chosen: list[Case]) -> list[str]:
    """What is wrong with each of the cases that something is wrong with."""
    results = filter(None, map(runner.run, chosen))
    return [f"{result.case.id}: {result.problem}" for result in results if result.problem]


def test_there_are_enough_and_each_has_a_name_of_its_own(cases: list[Case]) -> None:
    assert len(cases) > 1500 and len({case.id for case in cases}) == len(cases)
    first, again = ([one.make() for one in sample(made, 1)] for made in (image_cases()[:300], image_cases()[:300]))
    assert first == again


def test_the_library_does_right_by_a_few_of_every_family(cases: list[Case], embedded: Backbone, tmp_path: Path) -> None:
    chosen = [case for case in sample(cases, 4) if not case.family.startswith(SLOW)]
    assert failed(Library(embedded, tmp_path), chosen) == []


def test_the_command_line_does_right_by_one_of_every_family(
    cases: list[Case], embedded: Backbone, tmp_path: Path
) -> None:
    chosen = [case for case in sample(cases, 1) if not case.family.startswith(SLOW)]
    assert failed(CommandLine(embedded, tmp_path), chosen) == []


def test_a_running_app_does_right_by_one_of_every_family(cases: list[Case], app: App) -> None:
    chosen = [case for case in sample(cases, 1) if not case.family.startswith(SLOW)]
    chosen += [case for case in sample(cases, 3) if case.kind == "request"]
    assert failed(app, chosen) == []


def test_an_app_for_strangers_does_right_by_one_of_every_family(
    cases: list[Case], public: str, embedded: Backbone
) -> None:
    chosen = [case for case in sample(cases, 1) if not case.family.startswith(SLOW)]
    chosen += [case for case in sample(cases, 2) if case.kind == "request"]
    assert failed(App(public, "self", embedded), chosen) == []


def test_the_tools_over_mcp_do_right_by_a_few_of_every_family(
    cases: list[Case], public: str, embedded: Backbone
) -> None:
    chosen = [case for case in sample(cases, 1) if not case.family.startswith(SLOW)]
    chosen += [case for case in sample(cases, 12) if case.kind == "tool"]
    assert failed(Mcp(public, "self", embedded), chosen) == []


def test_good_files_get_their_lines_beside_hostile_ones_under_a_memory_limit(tmp_path: Path, examples: Path) -> None:
    for case in sample([case for case in image_cases() if not case.family.startswith("images, vast")], 1):
        (tmp_path / case.file).write_bytes(case.make())
    (tmp_path / "zebra.jpg").write_bytes((examples / "zebra.jpg").read_bytes())
    script = (
        "import sys, lsn_core.cli.score, lsn_core.detector.detector\n"
        "from lsn_core.cli.app import build\n"
        "from tests.corpus.memory import limit_memory\n"
        "limit_memory()\n"
        "build()(sys.argv[1:])"
    )
    command = [sys.executable, "-c", script, "score", str(tmp_path), "--classes", "dog,zebra", "--json"]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    lines = {Path(line["file"]).name: line for line in map(json.loads, done.stdout.splitlines())}
    assert len(lines) == len(list(tmp_path.iterdir()))
    assert lines["zebra.jpg"]["predicted_class"] == "zebra"
    assert not [line["error"] for line in lines.values() if line["error"] and unclear(line["error"])]


def test_a_process_under_the_limit_gets_no_more_memory() -> None:
    script = "from tests.corpus.memory import limit_memory\nlimit_memory(spare=2**26)\nbytes(2**28)"
    done = subprocess.run([sys.executable, "-c", script], cwd=REPO, capture_output=True, text=True)
    assert "MemoryError" in done.stderr


@pytest.mark.parametrize(
    ("right", "outcome", "wrong"),
    [
        (Right.SENTENCE, Refused("It is damaged. Get it again."), False),
        (Right.SENTENCE, Refused(""), True),
        (Right.SENTENCE, Refused("None"), True),
        (Right.SENTENCE, Refused("Traceback (most recent call last): x."), True),
        (Right.SENTENCE, Refused("a\x1b[2J is damaged."), True),
        (Right.SENTENCE, ["dog"], True),
        (Right.EITHER, ["dog"], False),
        (Right.EITHER, ValueError("x"), True),
        (["dog"], ["dog"], False),
        (["dog"], ["cat"], True),
        (["dog"], Refused("It is damaged. Get it again."), True),
        (Pixels(np.zeros((2, 2, 3), np.uint8)), np.zeros((2, 2, 3), np.uint8), False),
        (Pixels(np.zeros((2, 2, 3), np.uint8)), np.ones((2, 2, 3), np.uint8), True),
        (Pixels(np.zeros((2, 2, 3), np.uint8)), np.zeros((2, 3, 3), np.uint8), True),
    ],
)
def test_what_is_wrong_is_seen(right: object, outcome: object, wrong: bool) -> None:
    assert bool(problem_of(Case("x", "x", "x", str, right), outcome)) == wrong
