"""Pages that speak of the code: they name what is there, and are made anew when it changes."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import REPO

SOURCES = ("lsn_core/**/*.py", "lsn_app/**/*.py", "benchmarks/**/*.py", "scripts/**/*", "tests/**/*.py", "app.py")
NAMES = re.compile(r"`((?:lsn_core|lsn_app|benchmarks)(?:\.\w+)+)`")
VARIABLES = re.compile(r"\b(?:LSN_[A-Z_]+|GRADIO_SERVER_[A-Z]+)\b")


@pytest.mark.parametrize("name", sorted(set(NAMES.findall((REPO / "docs" / "equations.md").read_text()))))
def test_what_the_page_of_equations_names_is_there(name: str) -> None:
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            thing = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[end:]:
            thing = getattr(thing, attribute)
        return
    pytest.fail(f"there is no {name}")


def test_every_environment_variable_is_on_its_page_and_no_other() -> None:
    read: set[str] = set()
    for pattern in SOURCES:
        for path in REPO.glob(pattern):
            if path.is_file() and path.suffix in (".py", ".sh") and path != Path(__file__):
                read |= set(VARIABLES.findall(path.read_text(encoding="utf-8")))
    assert set(VARIABLES.findall((REPO / "docs" / "environment.md").read_text())) == read


def test_pages_made_from_the_code_are_up_to_date() -> None:
    done = subprocess.run([sys.executable, "-m", "scripts.docs", "--check"], cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/architecture.md", "docs/environment.md"]
)
def test_files_that_pages_name_are_there(page: str) -> None:
    text = (REPO / page).read_text(encoding="utf-8")
    named = re.findall(r"`((?:lsn_core|lsn_app|benchmarks|docs|tests|scripts)/[\w./-]+?)/?`", text)
    assert named and [path for path in named if not (REPO / path).exists()] == []


def test_what_a_reader_looks_for_stands_where_the_page_of_the_architecture_says() -> None:
    text = (REPO / "docs" / "architecture.md").read_text(encoding="utf-8")
    wanted = {
        "lsn_core/losses.py": "Eq. 7",
        "lsn_core/calibration.py": "conformal",
        "lsn_app/train/tab.py": "The Train tab",
        "benchmarks/tables/table3.py": "Table 3",
        "lsn_core/data/archive.py": "zip",
    }
    for path, word in wanted.items():
        assert f"`{path}`" in text and word in (REPO / path).read_text(encoding="utf-8")


def test_ci_runs_what_people_run() -> None:
    for file in (".ci/run", ".github/workflows/test.yml"):
        text = (REPO / file).read_text()
        assert "make check" in text and "make test" in text


def test_the_site_builds_without_a_broken_link(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(
        command, cwd=REPO, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "push_to_hub" in (tmp_path / "site" / "api" / "index.html").read_text(encoding="utf-8")
