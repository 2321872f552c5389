"""What every benchmark writes beside its numbers: versions, machine and seed; and tables kept inside Markdown pages."""

from __future__ import annotations

import csv
import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).resolve().parents[1] / "results"
PAGE = Path(__file__).resolve().parents[1] / "README.md"


def environment(seed: int | list[int] | None = None) -> dict[str, Any]:
    """Versions and machine, to stand beside measured numbers."""
    packages = ("torch", "open_clip_torch", "timm", "numpy", "pillow")
    return {
        "seed": seed,
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "cpu": platform.machine(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def write_results(name: str, results: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Writes results/NAME.json."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(results, indent=2) + "\n")
    return path


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes a line for each row, a column for each key of any of them."""
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_table(
    name: str,
    title: str,
    command: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    seeds: Sequence[int],
    facts: Mapping[str, Any],
    seconds: Mapping[str, float],
    details: Sequence[Mapping[str, Any]] = (),
    folder: Path = RESULTS,
) -> None:
    """Writes NAME.csv (the rows), NAME.json (those, and how they were made) and NAME_details.csv.

    Args:
        facts: what the numbers depend on, beside the images.
        seconds: part of the work -> how long it took.
    """
    spent = {part: round(value, 1) for part, value in seconds.items()}
    made = {"title": title, "command": command, **environment(list(seeds)), **facts, "seconds": spent}
    write_results(name, made | {"rows": list(rows)}, folder)
    for path, lines in ((folder / f"{name}.csv", rows), (folder / f"{name}_details.csv", details)):
        if lines:
            write_csv(path, lines)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def replace_section(page: Path, marker: str, text: str) -> None:
    """Puts `text` between `<!-- MARKER -->` and `<!-- /MARKER -->` of a page; the markers must be there."""
    before, start, rest = page.read_text().partition(f"<!-- {marker} -->")
    _, end, after = rest.partition(f"<!-- /{marker} -->")
    if not start or not end:
        raise ValueError(f"{page.name} has no <!-- {marker} --> section")
    page.write_text(f"{before}{start}\n{text}\n{end}{after}")
