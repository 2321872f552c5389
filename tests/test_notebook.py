"""The notebook runs from top to bottom, and its cells say what the text between them says."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from support import REPO

NOTEBOOK = REPO / "docs" / "notebooks" / "first_verdict.ipynb"


def run(notebook: nbformat.NotebookNode, folder: Path) -> list[str]:
    """What each code cell prints or shows; warnings are left out."""
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(folder)}}).execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    told = [[one for one in cell.outputs if one.get("name") != "stderr"] for cell in cells]
    return ["".join(one.get("text", " ".join(one.get("data", {}))) for one in outputs) for outputs in told]


def test_the_notebook_runs_and_its_verdicts_are_those_it_speaks_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPO), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "it is kept without outputs"
    _, names, evidence, negation, learned, picture = run(notebook, tmp_path)
    assert [line.split()[:2] for line in names.splitlines()] == [
        ["dog", "ID"],
        ["elephant", "ID"],
        ["guitar", "OOD"],
        ["strawberries", "OOD"],
    ]
    *parts, distance = [float(line.split()[0]) for line in evidence.splitlines()]
    assert len(parts) > 1 and sum(parts) == pytest.approx(distance, abs=1e-3)
    cosines = [float(line.split()[0]) for line in negation.splitlines()]
    assert cosines[0] - cosines[1] < 0.1 < cosines[0] - cosines[2]
    assert [line.split()[1] for line in learned.splitlines()] == ["ID", "OOD", "OOD"]
    assert "image/png" in picture


def test_without_the_package_it_asks_for_the_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (first, *_) = (cell for cell in notebook.cells if cell.cell_type == "code")
    first.source = first.source.replace('find_spec("lsn_core")', 'find_spec("lsn_core_that_is_not_there")')
    notebook.cells = [first]
    with pytest.raises(CellExecutionError, match="REPOSITORY"):
        run(notebook, tmp_path)
