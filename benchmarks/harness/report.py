"""What every benchmark writes beside its numbers: versions, machine and seed; and tables kept inside Markdown pages."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).resolve().parents[1] / "results"
PAGE = Path(__file__).resolve().parents[1] / "README.md"


def environment(seed: int | None = None) -> dict[str, Any]:
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
